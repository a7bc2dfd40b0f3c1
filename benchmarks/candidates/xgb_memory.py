"""What a training of trees takes of memory: xgboost.train on a matrix, in a process of its own; run by benchmarks/training.py."""

import sys

import numpy as np
import xgboost
from answering import serve
from meter import MB, peak_of_own

PARAMS = {"objective": "binary:logistic", "max_depth": 6, "tree_method": "hist", "nthread": 1}


class PlainMemory:
    """The matrix of a file, and xgboost alone."""

    def peak(self, file, rounds):
        """MB of the matrix and of its training together, and of the matrix alone."""
        with peak_of_own() as peaks:
            X, y = read(file)
            peaks.forget()  # reading may have taken more
            xgboost.train(PARAMS, xgboost.DMatrix(X, y, nthread=1), int(rounds))
        parts = [X.data, X.indices, X.indptr] if hasattr(X, "indptr") else [X]
        return {"peak_mb": peaks.grown / MB, "matrix_mb": sum(part.nbytes for part in parts) / MB}


def read(file):
    """The rows that another candidate has written, and their labels."""
    with np.load(file) as found:
        if "X" in found:
            return found["X"], found["y"]
        from scipy import sparse

        about = found["values"], found["indices"], found["ends"]
        return sparse.csr_matrix(about, shape=tuple(found["shape"])), found["y"]


if __name__ == "__main__":
    sys.stderr.flush()
    serve({"peak": PlainMemory().peak})
