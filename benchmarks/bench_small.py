"""Small fits and predictions: processor time, packages taking turns.

Run: python -m benchmarks.bench_small [--rounds 3]
"""

import argparse
from statistics import median
from time import process_time

import skmixed
from benchmarks.cases import CASES
from benchmarks.packages import Mixedlm, Skmixed
from benchmarks.runner import timed

SMALL = ("sleepstudy", "penicillin", "pastes", "machines", "machines_vector", "scotssec")
REPEATS = 20


def _fits(case, frame):
    """{package: fit} of those that are installed."""
    fits = {"skmixed": lambda: skmixed.MixedLinearRegressor(case.formula).fit(frame)}
    if Mixedlm().version():
        import mixedlm

        fits["mixedlm"] = lambda: mixedlm.lmer(case.formula, frame)
    return fits


def _predictions(case, frame):
    """{what: prediction} of one row and of 1,000."""
    model = skmixed.MixedLinearRegressor(case.formula).fit(frame)
    one = frame.iloc[[3]]
    text = one.astype(dict.fromkeys(one.select_dtypes("category"), object))
    many = frame.iloc[[i % len(frame) for i in range(1000)]].reset_index(drop=True)
    rows = {"one row": one, "one row, text": text, "1,000 rows": many}
    return {what: lambda X=X: model.predict(X) for what, X in rows.items()}


def _turns(functions, rounds):
    """{name: seconds of all calls}, the functions taking turns."""
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            runs = timed(function, lambda _: {}, REPEATS, process_time)
            seconds[name] += [run.seconds for run in runs]
    return seconds


def _table(kind, what, rounds):
    print(f"\n| case | {kind} | median | least | times the first |\n|:--|:--|--:|--:|--:|")
    for case in (case for case in CASES if case.name in SMALL):
        frame = case.data()
        seconds = _turns(what(case, frame), rounds)
        first = median(next(iter(seconds.values())))
        for name, own in seconds.items():
            times = f"{1e3 * median(own):.3g} ms | {1e3 * min(own):.3g} ms"
            print(f"| {case.name} | {name} | {times} | {median(own) / first:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_small")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print("skmixed", Skmixed().version(), "mixedlm", Mixedlm().version())
    _table("package", _fits, rounds)
    _table("prediction", _predictions, rounds)
