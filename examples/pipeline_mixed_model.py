"""A mixed model in a scikit-learn pipeline: preprocessing, grid search, unseen groups.

    python examples/pipeline_mixed_model.py

The data are the marks of 3435 pupils in Fife, Scotland, who came from 148 primary schools to 19
secondary schools. The question is how to predict the attainment of a pupil of a school we know, and
of one we do not.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixed import MixedLinearRegressor, SingularFitWarning
from skmixed.datasets import load_scotssec


def make_model(formula):
    """Scale the covariates, pass the factors through, fit.

    Grouping factors are columns like any other. The formula speaks of columns by name, so the
    transformer must return a DataFrame (set_output) with the names it was given.
    """
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["verbal", "social"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return make_pipeline(scale.set_output(transform="pandas"), MixedLinearRegressor(formula))


def fit(X, y):
    print("1. A pipeline\n")
    pipeline = make_model("verbal + sex + social + (1 | primary)").fit(X, y)
    print(pipeline[-1].summary())
    return pipeline


FORMULAS = [
    "verbal + sex",
    "verbal + sex + social",
    "verbal + sex + social + (1 | primary)",
    "verbal + sex + social + (1 | primary) + (1 | second)",
    "verbal + sex + social + (verbal | primary) + (1 | second)",
]


def search(X, y, cv, groups=None):
    """Mean R^2 of every formula, and the number of singular fits on the way."""
    grid = GridSearchCV(make_model(None), {"mixedlinearregressor__formula": FORMULAS}, cv=cv)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SingularFitWarning)
        grid.fit(X, y, groups=groups)
    singular = sum(issubclass(w.category, SingularFitWarning) for w in caught)
    return grid.cv_results_["mean_test_score"], singular


def grid_search(X, y):
    print("\n\n2. A grid search over formulas: R^2 in cross-validation\n")
    known, singular = search(X, y, KFold(5, shuffle=True, random_state=0))
    new, more = search(X, y, GroupKFold(5), groups=X["primary"])
    table = pd.DataFrame({"known schools": known, "new schools": new}, index=FORMULAS)
    print(table.round(4).to_string())
    print(
        "\nKFold leaves out pupils, GroupKFold whole primary schools. Random effects improve the\n"
        "prediction for schools that were there in training; for a new school they are zero.\n"
        f"{singular + more} fits were singular (a variance of zero); a warning says so each time."
    )


def cross_validation(X, y):
    print("\n\n3. Cross-validation by school of one model\n")
    model = make_model("verbal + sex + social + (1 | primary)")
    scores = cross_val_score(model, X, y, groups=X["primary"], cv=GroupKFold(5), n_jobs=2)
    print("R^2 of five folds of schools:", scores.round(3))


def new_school(X, y):
    print("\n\n4. A pupil of average verbal score at three primary schools\n")
    model = MixedLinearRegressor("verbal + sex + (1 | primary)").fit(X, y)
    schools = model.random_effects_["primary"]["Intercept"].sort_values().index
    pupils = pd.DataFrame(
        {"verbal": 0.0, "sex": "F", "primary": [schools[0], schools[-1], "a new school"]}
    )
    mean, std = model.predict(pupils, return_std=True)
    low, high = model.predict_interval(pupils, kind="observation").T
    table = pupils.assign(prediction=mean, std_error=std, low=low, high=high)
    print(table.round(2).to_string(index=False))
    print("\nThe new school is an average one, and its standard error says what we do not know.")
    print("unseen_groups='raise' or 'nan' would refuse or mark such rows.")

    groups = X["primary"].to_numpy()
    inside = []
    for train, test in GroupKFold(10).split(X, y, groups):
        model.fit(X.iloc[train], y.iloc[train])
        low, high = model.predict_interval(X.iloc[test], kind="observation").T
        inside.append(np.mean((low <= y.iloc[test]) & (y.iloc[test] <= high)))
    print(f"\n95 % intervals hold {100 * np.mean(inside):.1f} % of the pupils of unseen schools.")


def save_and_load(pipeline, X):
    print("\n\n5. In another process\n")
    stored = pickle.dumps(pipeline)
    same = np.array_equal(pickle.loads(stored).predict(X), pipeline.predict(X))
    print(f"pickle of {len(stored) / 1024:.0f} KiB without training rows; same predictions: {same}")


def main():
    X, y = load_scotssec(return_X_y=True)
    pipeline = fit(X, y)
    grid_search(X, y)
    cross_validation(X, y)
    new_school(X, y)
    save_and_load(pipeline, X)


if __name__ == "__main__":
    main()
