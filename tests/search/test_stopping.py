"""Schedulers, searchers, time, and going on with a search whose driver died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import gamma, loguniform, randint
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from raydp_ml import GridSearch, RandomizedSearch, XGBEstimator
from raydp_ml.errors import InvalidTypeError, InvalidValueError, MissingDependencyError
from raydp_ml.search.budget import Budget
from raydp_ml.search.halving import Halving, InOrder
from raydp_ml.search.journal import Journal
from raydp_ml.search.run import SearchRows, SearchRun
from raydp_ml.search.trial import CandidateRun, Outcome, Plan
from tests.waiting import until

RNG = np.random.default_rng(11)
X = RNG.normal(size=(150, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 + RNG.normal(size=150) > 1).astype(int)


def model(**params: Any) -> XGBEstimator:
    return XGBEstimator(objective="binary:logistic", verbose=False, **{"num_boost_round": 16, **params})


# -- schedulers ------------------------------------------------------------------------------------------------------


def test_a_scheduler_stops_weak_candidates_and_leaves_the_scores_of_strong_ones(ray_cluster: None) -> None:
    grid = {"eta": [0.4, 1e-6, 1e-5, 2e-6], "max_depth": [3]}
    about: dict[str, Any] = {"scoring": "neg_log_loss", "max_concurrent_trials": 1}
    plain = GridSearch(model(), grid, **about).fit(X, Y).cv_results_
    search = GridSearch(model(), grid, scheduler="asha", **about).fit(X, Y)
    found = search.cv_results_
    # The others learn nothing and are out after one round, so that the first has all of them.
    assert found["n_resources"].tolist() == [16, 1, 1, 1]
    assert found["mean_test_score"][0] == plain["mean_test_score"][0]
    assert (found["mean_test_score"][1:] != plain["mean_test_score"][1:]).all()
    assert search.best_params_ == {"eta": 0.4, "max_depth": 3}
    # A trial for each candidate with all folds at first, then one for each fold of 4 and of 16 rounds.
    assert [len(result.config["folds"]) for result in search.results_] == [3] * 4 + [1] * 6
    assert search.learning_curves_[0][0].tolist() == [1, 4, 16]


def test_candidates_go_on_in_the_same_way_whatever_runs_at_once(ray_cluster: None) -> None:
    grid = {"eta": [1e-6, 0.02, 0.4, 1e-5, 0.1, 0.3, 1e-4, 0.05], "max_depth": [2]}
    about: dict[str, Any] = {"scoring": "neg_log_loss", "scheduler": "asha", "refit": False}
    one = GridSearch(model(), grid, max_concurrent_trials=1, **about).fit(X, Y).cv_results_
    many = GridSearch(model(), grid, **about).fit(X, Y).cv_results_
    np.testing.assert_array_equal(one["mean_test_score"], many["mean_test_score"])
    np.testing.assert_array_equal(one["n_resources"], many["n_resources"])
    assert sorted(one["n_resources"].tolist()) == [1] * 6 + [4, 16]  # a quarter of 8, and the best of these


def test_candidates_whose_fits_fail_are_out(ray_cluster: None) -> None:
    grid = {"max_depth": [2, 3, 4], "doom": ["", "fails"], "n_estimators": [16]}
    search = GridSearch(Doomed(), grid, scheduler="asha", refit=False)
    with pytest.warns(FitFailedWarning, match="9 of 18 fits failed"):
        search.fit(X, Y)
    means, trees = search.cv_results_["mean_test_score"], search.cv_results_["n_resources"]
    failed = search.cv_results_["param_doom"] == "fails"
    assert np.isnan(means).tolist() == failed.tolist()
    assert sorted(trees.tolist()) == [1] * 5 + [16]
    best = RandomForestClassifier(16, max_depth=search.best_params_["max_depth"], random_state=0)
    assert search.best_score_ == means[trees == 16][0] == pytest.approx(cross_val_score(best, X, Y, cv=3).mean())


def test_a_candidate_whose_process_dies_is_out_and_late_fits_do_not_count() -> None:
    told: list[int] = []
    run = SearchRun(SearchRows(None, None, None, None, finished=lambda number: told.append(number)))  # type: ignore[arg-type]
    for number in range(3):
        run.add({"C": number})
    halving = Halving(InOrder([0, 1, 2]), run, lambda number: Budget("n", (1, 4, 16)), 3, 2, "score")

    def fits(config: dict[str, Any], score: float) -> Outcome:
        results = [{"fold": fold, "step": config["step"], "scores": {"score": score}} for fold in config["folds"]]
        return Outcome.from_dict({"results": results, "steps": 3})

    first, _, third = (halving.suggest(f"trial {number}") for number in range(3))
    assert first == {"candidate": 0, "step": 0, "folds": [0, 1]}
    halving.advanced(0, fits(first, 0.5))
    ahead = halving.suggest("ahead")
    assert ahead == {"candidate": 0, "step": 1, "folds": [0]}  # it leads, but two are missing
    halving.ended(1, "its process died")
    halving.advanced(2, fits(third, 0.7))
    assert told == [1, 0] and run.outcomes[1].problem == "its process died"
    halving.advanced(0, fits(ahead, 0.9))  # too late
    assert [(result.step, result.fold) for result in run.outcomes[0].results] == [(0, 0), (0, 1)]
    while (config := halving.suggest("next")) != "FINISHED":
        assert config["candidate"] == 2
        halving.advanced(2, fits(config, 0.8))
    assert told == [1, 0, 2] and len(run.outcomes[2].results) == 6


def test_asha_goes_on_behind_fits_that_are_written_down(ray_cluster: None, tmp_path: Path) -> None:
    grid = {"max_depth": [1, 2, 3, 4], "n_estimators": [16]}
    about: dict[str, Any] = {"scheduler": "asha", "scoring": "neg_log_loss", "refit": False}
    about |= {"storage_path": str(tmp_path / "search"), "max_concurrent_trials": 1}

    def fits(log: Path, **given: Any) -> tuple[list[str], Any]:
        search = GridSearch(Doomed(), {**grid, "log": [str(tmp_path / "log")]}, **about, **given).fit(X, Y)
        lines = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines, search.cv_results_

    lines, whole = fits(tmp_path / "log")
    assert lines == ["1"] * 12 + ["4"] * 3 + ["16"] * 3
    # As if the driver had died in the second fold of the last step, and a candidate had not begun.
    best = int(np.argmax(whole["n_resources"]))
    lost = next(number for number in range(4) if number != best)
    written = tmp_path / "search" / "raydp_ml_search"
    (written / f"{lost:06d}.json").unlink()
    outcome = json.loads((written / f"{best:06d}.json").read_text())
    outcome["results"] = outcome["results"][:-2]
    (written / f"{best:06d}.json").write_text(json.dumps(outcome))
    lines, again = fits(tmp_path / "log", resume=True)
    assert lines == ["1"] * 3 + ["16"] * 2
    np.testing.assert_array_equal(again["mean_test_score"], whole["mean_test_score"])
    assert fits(tmp_path / "log", resume=True)[0] == []


def test_asha_takes_its_candidates_from_a_searcher(ray_cluster: None) -> None:
    pytest.importorskip("optuna")
    search = RandomizedSearch(
        model(), {"eta": loguniform(1e-3, 0.5)}, n_iter=8, search_alg="optuna", scheduler="asha", random_state=0,
        scoring="neg_log_loss", refit=False, max_concurrent_trials=2,
    ).fit(X, Y)  # fmt: skip
    assert sorted(search.cv_results_["n_resources"].tolist()) == [1] * 6 + [4, 16]
    assert len({params["eta"] for params in search.cv_results_["params"]}) == 8


def test_the_median_rule_and_a_scheduler_of_the_users(ray_cluster: None) -> None:
    from ray.tune.schedulers import ASHAScheduler

    grid = {"eta": [0.4, 0.3, 0.5, 1e-6]}
    about: dict[str, Any] = {"scoring": "neg_log_loss", "max_concurrent_trials": 1, "refit": False}
    median = GridSearch(model(), grid, scheduler="median", **about).fit(X, Y).cv_results_
    assert median["n_resources"][-1] < 16
    # It reads rounds as training_iteration: nothing is decided before 4 of them, and nothing runs beyond 4.
    given = ASHAScheduler(grace_period=4, max_t=4)
    search = GridSearch(model(), grid, scheduler=given, **about).fit(X, Y)
    assert search.cv_results_["n_resources"].tolist() == [4, 4, 4, 4]
    assert search.best_params_["eta"] != 1e-6


def test_candidates_that_were_stopped_rank_behind() -> None:
    from raydp_ml.search.results import cv_results

    def outcome(*steps: float) -> Outcome:
        run = Outcome(steps=2)
        for step, score in enumerate(steps):
            run.results += Outcome.from_dict(
                {"results": [{"fold": 0, "step": step, "resource": step + 1, "scores": {"score": score}}]}
            ).results
        return run

    outcomes = [outcome(0.9), outcome(0.5, 0.6), outcome(0.4, float("nan")), outcome(0.95)]
    table = cv_results(
        [{"a": n} for n in range(4)], outcomes, n_splits=1, error_score=np.nan, train_scores=False, in_steps=True
    )
    assert table["rank_test_score"].tolist() == [3, 1, 4, 2]
    assert table["n_resources"].tolist() == [1, 2, 2, 1]


def test_budgets() -> None:
    assert Budget.of(model(num_boost_round=100)).amounts == (7, 25, 100)
    assert Budget.of(model(num_boost_round=2)).amounts == (1, 2)
    assert Budget.of(model(num_boost_round=2)).time(0) == 4  # the last step has the same time for all
    assert len(Budget.of(LogisticRegression())) == 1


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"scheduler": "hyper"}, InvalidValueError, "scheduler='hyper' must be"),
        ({"scheduler": 3}, InvalidTypeError, "scheduler must be"),
        ({"scheduler": "PopulationBasedTraining"}, InvalidValueError, "changes parameters in the middle of a trial"),
        ({"scheduler": "HyperBandScheduler"}, InvalidValueError, "holds all candidates of a bracket back"),
        ({"scheduler": "asha", "estimator": LogisticRegression()}, InvalidValueError, "has nothing to stop"),
        ({"scheduler": "asha", "estimator": model(num_workers=2)}, InvalidValueError, "several workers"),
        ({"scheduler": "asha", "scoring": ["accuracy"], "refit": False}, InvalidValueError, "the one that refit names"),
        ({"time_budget_s": 0}, InvalidValueError, "time_budget_s=0 must be"),
        ({"resume": True}, InvalidValueError, "resume=True needs storage_path"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_work_is_refused(
    ray_cluster: None, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    from ray.tune import schedulers

    made = {
        "PopulationBasedTraining": lambda: schedulers.PopulationBasedTraining(hyperparam_mutations={"eta": [0.1, 1]}),
        "HyperBandScheduler": schedulers.HyperBandScheduler,
    }
    name = given.get("scheduler")
    given = {**given, "scheduler": made[name]() if name in made else name}
    estimator = given.pop("estimator", model())
    param = "C" if isinstance(estimator, LogisticRegression) else "eta"
    with pytest.raises(error, match=said):
        GridSearch(estimator, {param: [0.1, 0.5]}, **given).fit(X, Y)


class Doomed(RandomForestClassifier):
    """Fails if told to; writes down how many trees it is fitted with."""

    def __init__(self, n_estimators: int = 100, max_depth: int | None = None, doom: str = "", log: str = "") -> None:
        super().__init__(n_estimators, max_depth=max_depth, random_state=0)
        self.doom = doom
        self.log = log

    def fit(self, X: Any, y: Any) -> Any:
        if self.log:
            with Path(self.log).open("a") as lines:
                lines.write(f"{self.n_estimators}\n")
        if self.doom == "fails":
            raise ValueError("told to fail")
        return super().fit(X, y)


# -- searchers -------------------------------------------------------------------------------------------------------


def test_a_searcher_chooses_the_candidates(ray_cluster: None) -> None:
    from ray.tune.search import Searcher

    seen: list[float] = []
    spaces: list[set[str]] = []

    class Upwards(Searcher):
        """Goes up; it tells outside what it saw, because the search has a copy of it."""

        def __init__(self) -> None:
            super().__init__()
            self.depth = 0

        def set_search_properties(self, metric: str, mode: str, config: dict, **spec: Any) -> bool:
            spaces.append(set(config))
            return True

        def suggest(self, trial_id: str) -> dict[str, Any]:
            self.depth += 1
            return {"max_depth": self.depth, "eta": 1}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            seen.append(result["score"])

        def save(self, path: str) -> None: ...

        def restore(self, path: str) -> None: ...

    searcher = Upwards()
    distributions = {"max_depth": randint(1, 9), "eta": [0.1, 0.5]}
    about: dict[str, Any] = {"n_iter": 3, "max_concurrent_trials": 1, "scoring": "roc_auc"}
    search = RandomizedSearch(model(), distributions, search_alg=searcher, **about).fit(X, Y)
    assert search.cv_results_["params"] == [{"max_depth": depth, "eta": 0.5} for depth in (1, 2, 3)]
    assert seen == search.cv_results_["mean_test_score"].tolist()
    assert spaces == [{"max_depth", "eta"}]
    assert searcher.depth == 0  # what was given is as it was
    listed = GridSearch(model(), {"max_depth": [1, 2, 3], "eta": [0.5]}, scoring="roc_auc", refit=False).fit(X, Y)
    np.testing.assert_array_equal(listed.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])


def test_searchers_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(distributions: Any, **given: Any) -> Any:
        return RandomizedSearch(model(), distributions, **given).fit(X, Y)

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match="pip install optuna"):
        fit({"eta": loguniform(0.1, 1)}, search_alg="optuna")
    with pytest.raises(InvalidValueError, match="search_alg='skopt' must be"):
        fit({"eta": [0.1]}, search_alg="skopt")
    with pytest.raises(InvalidTypeError, match="cannot be told the distribution gamma of 'eta'"):
        fit({"eta": gamma(2)}, search_alg="optuna")
    with pytest.raises(InvalidValueError, match="cannot be used with search_alg"):
        fit({"eta": [0.1]}, search_alg="optuna", resume=True, storage_path="/tmp/none")


def test_search_spaces_of_ray_tune_are_distributions() -> None:
    from ray import tune

    search = RandomizedSearch(model(), {"eta": tune.uniform(0.2, 0.4), "max_depth": [2]}, n_iter=4, random_state=1)
    drawn = [params["eta"] for params in search._candidates()]
    assert drawn == [params["eta"] for params in search._candidates()]
    assert len(set(drawn)) == 4 and all(0.2 <= eta <= 0.4 for eta in drawn)


# -- time, death, and going on ---------------------------------------------------------------------------------------


class Slow(LogisticRegression):
    """Takes a moment."""

    def fit(self, X: Any, y: Any) -> Any:
        time.sleep(0.4)  # the work that a search with a limit has no time for
        return super().fit(X, y)


def test_a_search_has_its_time(ray_cluster: None) -> None:
    search = GridSearch(Slow(), {"C": list(range(1, 200))}, time_budget_s=4, max_concurrent_trials=2)
    began = time.monotonic()
    with pytest.warns(FitFailedWarning, match="stopped before the candidate was tried"):
        search.fit(X, Y)
    assert time.monotonic() - began < 60  # 240 s of work for two at a time
    means = search.cv_results_["mean_test_score"]
    assert not np.isnan(means[0]) and np.isnan(means[-1])


class DiesOnce(LogisticRegression):
    """Takes its process along, the first time."""

    mark = ""

    def __init__(self, C: float = 1.0, mark: str = "") -> None:
        super().__init__(C=C)
        self.mark = mark

    def fit(self, X: Any, y: Any) -> Any:
        if self.C == 13 and not Path(self.mark).exists():
            Path(self.mark).touch()
            os._exit(1)
        return super().fit(X, y)


def test_a_trial_whose_process_dies_is_tried_once_more(ray_cluster: None, tmp_path: Path) -> None:
    search = GridSearch(DiesOnce(mark=str(tmp_path / "died")), {"C": [13, 1.0]}, max_concurrent_trials=1).fit(X, Y)
    assert (tmp_path / "died").exists()
    plain = GridSearch(LogisticRegression(), {"C": [13, 1.0]}, max_concurrent_trials=1).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


class Counted(LogisticRegression):
    """Writes down each fit, and waits at one of them for its end."""

    def __init__(self, C: float = 1.0, log: str = "", wait_at: int = 0) -> None:
        super().__init__(C=C)
        self.log = log
        self.wait_at = wait_at

    def fit(self, X: Any, y: Any) -> Any:
        log = Path(self.log)
        with log.open("a") as lines:
            lines.write(f"{self.C}\n")
        if self.wait_at and len(log.read_text().split()) == self.wait_at:
            time.sleep(600)
        return super().fit(X, y)


PROGRAM = """
import sys, tempfile
sys.path.insert(0, {root!r})
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir={temp!r})
from raydp_ml import GridSearch
from tests.search.test_stopping import Counted, X, Y
GridSearch(Counted(), {grid!r}, storage_path={storage!r}, max_concurrent_trials=1, refit=False).fit(X, Y)
"""


def test_a_search_whose_driver_was_killed_goes_on_behind_its_fits(ray_cluster: None, tmp_path: Path) -> None:
    log, storage = tmp_path / "fits", tmp_path / "search"
    grid = {"C": [0.1, 1.0, 10.0], "log": [str(log)], "wait_at": [5]}  # killed in the second fold of the second
    root = str(Path(__file__).parents[2])
    temp = tempfile.mkdtemp(prefix="rdp_", dir="/tmp")
    program = PROGRAM.format(root=root, temp=temp, grid=grid, storage=str(storage))
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as driver:
        try:
            until(lambda: log.exists() and len(log.read_text().split()) == 5, 240, "the fifth fit has begun")
            until(lambda: '"fold": 0' in (storage / "raydp_ml_search" / "000001.json").read_text(), 30, "written down")
        finally:
            os.killpg(driver.pid, signal.SIGKILL)
    shutil.rmtree(temp, ignore_errors=True)
    about: dict[str, Any] = {"storage_path": str(storage), "max_concurrent_trials": 1, "refit": False}
    search = GridSearch(Counted(), grid, resume=True, **about).fit(X, Y)  # without waiting: the log has five lines
    # Four fits were done; the fifth, in which the driver died, and the other four are made.
    assert log.read_text().split() == ["0.1"] * 3 + ["1.0"] * 2 + ["1.0"] * 2 + ["10.0"] * 3
    plain = GridSearch(LogisticRegression(), {"C": grid["C"]}, refit=False).fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    GridSearch(Counted(), grid, resume=True, **about).fit(X, Y)
    assert len(log.read_text().split()) == 10  # nothing is left to fit
    with pytest.raises(InvalidValueError, match="a search that differs in labels"):
        GridSearch(Counted(), grid, resume=True, **about).fit(X, 1 - Y)
    with pytest.raises(InvalidValueError, match=r"differs in candidates.*random_state"):
        GridSearch(Counted(), {**grid, "C": [0.1]}, resume=True, **about).fit(X, Y)


def test_fits_that_were_made_before_are_taken_and_not_repeated() -> None:
    class Folds:
        """Gives no fold: a fit would fail."""

        def fold(self, prefix: int, number: int) -> Any:
            raise AssertionError("asked for rows")

    plan = Plan(DummyClassifier(), None, Folds(), 2, {"score": None}, np.nan)
    done = Outcome.from_dict({"results": [{"fold": 0, "scores": {"score": 0.5}}]})
    run = CandidateRun(plan, {}, 0, done)
    run.advance()
    assert run.outcome.results == done.results and not run.finished
    run.advance()
    assert run.finished and "asked for rows" in str(run.outcome.results[1].error)


def test_trees_of_a_forest_are_a_budget_too(ray_cluster: None) -> None:
    search = GridSearch(
        RandomForestClassifier(n_estimators=16, random_state=0),
        {"max_depth": [1, 1, 3, 1]},
        scheduler="median",
        scoring="roc_auc",
        max_concurrent_trials=1,
        refit=False,
    ).fit(X, Y)
    assert search.cv_results_["n_resources"][2] == 16
    assert search.learning_curves_[2][0].tolist() == [1, 4, 16]


def test_fits_that_failed_are_made_again(tmp_path: Path) -> None:
    written = Journal(tmp_path)
    assert written.begin({"labels": "a"}, resume=True) == {}
    results = [{"fold": 0, "scores": {"score": 0.5}}, {"fold": 1, "error": "Spark was stopped"}, {"fold": 2}]
    written.keep(3, Outcome.from_dict({"results": results}))
    found = Journal(f"file://{tmp_path}").begin({"labels": "a"}, resume=True)
    assert [result.fold for result in found[3].results] == [0]
    assert Journal(tmp_path).begin({"labels": "a"}, resume=False) == {}
    assert Journal(tmp_path).begin({"labels": "a"}, resume=True) == {}
