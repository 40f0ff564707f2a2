# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn"]
# ///
"""One point of a sweep: how well does a classifier read digits with these settings?

An ordinary script: arguments in, one line of JSON out, files into $SUBLET_OUTPUT. It
knows nothing of Sublet and runs as well without it.
"""

import argparse
import json
import os
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def main() -> None:
    """Fit five times, each time on four fifths; say how well the rest is read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--c", type=float, default=1.0, help="softness of the margin")
    parser.add_argument("--gamma", type=float, default=0.01, help="width of a kernel")
    options = parser.parse_args()
    images, digits = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), SVC(C=options.c, gamma=options.gamma))
    scores = cross_val_score(model, images, digits, cv=5)
    found = {"c": options.c, "gamma": options.gamma, "accuracy": scores.mean()}
    folder = Path(os.environ.get("SUBLET_OUTPUT", "."))
    (folder / "scores.json").write_text(json.dumps(scores.tolist()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
