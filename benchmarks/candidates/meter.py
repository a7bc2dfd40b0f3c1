"""What a measure costs in seconds and in memory; runs in every environment, so it imports nothing of ours."""

import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

MB = 1e6
EVERY = 0.1  # seconds between two looks at the memory
TICKS = os.sysconf("SC_CLK_TCK")


def processes_below():
    """This process and all below it, also those that Ray started: pid, parent, name, CPU seconds."""
    children, known = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    before, _, after = stat.read().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = after.split()
            children.setdefault(int(fields[1]), []).append(int(entry))
            known[int(entry)] = int(fields[1]), before.partition("(")[2], sum(map(int, fields[11:13])) / TICKS
    found, queue = [], [os.getpid()]
    while queue:
        pid = queue.pop()
        if pid in known:
            found.append((pid, *known[pid]))
        queue += children.get(pid, [])
    return found


class CpuClock:
    """CPU seconds of this process and all below it since the clock was made, also of those that end meanwhile."""

    def __init__(self):
        self._before, self._last = {}, {}
        self.look()
        self._before = dict(self._last)

    def look(self):
        """Note what each process has spent; the list of them. What ends later keeps what was seen last."""
        found = processes_below()
        self._last.update((pid, spent) for pid, _, _, spent in found)
        return found

    def seconds(self):
        self.look()
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in list(self._last.items()))


def memory_of(pid, *kinds):
    """Bytes of a process's resident memory of some kinds, ``RssAnon`` or ``RssShmem``; 0 when it has ended."""
    found = 0
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                name, _, rest = line.partition(":")
                if name in kinds:
                    found += int(rest.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def anonymous(pid):
    """Bytes of memory that are the process's own: blocks in shared memory are counted once, as the store's."""
    return memory_of(pid, "RssAnon")


class Peak:
    """The highest of a measure of memory over what it was at first."""

    def __init__(self, measure):
        self._measure = measure
        self._first = self._highest = measure()

    def look(self):
        self._highest = max(self._highest, self._measure())

    def forget(self):
        """Begin anew, with the same first value."""
        self._highest = self._measure()

    @property
    def highest(self):
        return self._highest

    @property
    def grown(self):
        return self._highest - self._first


@contextmanager
def peak_of(measure):
    """Looks at a measure of memory again and again, as often as short peaks need it."""
    peak, stop = Peak(measure), threading.Event()

    def sample():
        while not stop.wait(EVERY / 5):
            peak.look()

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()
        peak.look()


def peak_of_own():
    """The memory of this process."""
    return peak_of(lambda: memory_of(os.getpid(), "RssAnon"))


def peak_of_worker():
    """The memory of the warm worker: its actor's own, and all of the processes that train for it, rows that they share included.

    What lies in the object store is not the worker's.
    """

    def measure():
        below = processes_below()
        actors = {pid for pid, _, name, _ in below if name.startswith("ray::WarmHost")}
        trains = set(actors)
        for pid, parent, _, _ in below:  # parents come before their children
            if parent in trains:
                trains.add(pid)
        return sum(memory_of(pid, "RssAnon", *([] if pid in actors else ["RssShmem"])) for pid in trains)

    return peak_of(measure)


def collect_garbage():
    """Shrink the heaps of all JVMs below this process: with those of several candidates the machine would run out of memory."""
    jvms = [str(pid) for pid, _, name, _ in processes_below() if name == "java"]
    for pid in jvms if shutil.which("jcmd") else []:
        # One that ends meanwhile needs none.
        subprocess.run(["jcmd", pid, "GC.run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def shm_used():
    room = os.statvfs("/dev/shm")
    return (room.f_blocks - room.f_bfree) * room.f_frsize


def store_used():
    """Bytes in use in the object store, as Ray's resources show it: a tenth of a second late, and the same for all candidates."""
    import ray

    if not ray.is_initialized():
        return 0
    name = "object_store_memory"
    return ray.cluster_resources()[name] - ray.available_resources().get(name, 0)


class Meter:
    """Measures works one after the other."""

    def __init__(self):
        # Other candidates use /dev/shm too, but not while this one works: its share is what its works added.
        self._shm = 0

    def measure(self, work):
        """Run it: wall and CPU seconds, and the highest memory seen meanwhile, in MB."""
        peaks, stop, shm_before = {}, threading.Event(), shm_used()
        clock = CpuClock()
        sampler = threading.Thread(target=self._sample, args=(peaks, stop, shm_before, clock), daemon=True)
        sampler.start()
        began = time.perf_counter()
        try:
            work()
            told = {"wall_s": time.perf_counter() - began, "cpu_s": clock.seconds()}
        finally:
            stop.set()
            sampler.join()
            self._shm += shm_used() - shm_before
        return {**told, **peaks}

    def _sample(self, peaks, stop, shm_before, clock):
        looks, jvms, drivers, last = 0, [], [], False
        while True:
            if looks % 10 == 0:
                java = [(pid, parent) for pid, parent, name, _ in clock.look() if name == "java"]
                jvms, drivers = [pid for pid, _ in java], [pid for pid, parent in java if parent == os.getpid()]
            looks += 1
            now = {
                "driver_mb": anonymous(os.getpid()),
                "driver_jvm_mb": sum(map(anonymous, drivers)),
                "jvms_mb": sum(map(anonymous, jvms)),
                "store_mb": store_used(),
                "shm_mb": self._shm + shm_used() - shm_before,
            }
            for name, value in now.items():
                peaks[name] = max(peaks.get(name, 0.0), value / MB)
            if last:
                return
            last = stop.wait(EVERY)
            if last:
                time.sleep(3 * EVERY)  # Ray tells late what its store holds
