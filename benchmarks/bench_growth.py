"""Cost as data grow, beside other packages: python -m benchmarks.bench_growth.

    python -m benchmarks.bench_growth                     # measure, write growth.csv and picture
    python -m benchmarks.bench_growth --resume            # only what growth.csv lacks
    python -m benchmarks.bench_growth --plot              # only draw what growth.csv holds

Two lines of data, two crossed factors and a covariate: more rows with ever more levels, and one
million rows with ever more levels. Every fit is a process of its own, which reads its columns
and fits some of the rows before the clock starts, and may take so many seconds of the processor
(``--seconds``; beyond ten million rows in proportion) and so much memory (``--gib``). Packages take
turns with equal repeats. A package leaves a line where it does not finish, and the table says why.
"""

import argparse
import csv
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

FORMULA = "y ~ x + (1 | user) + (1 | item)"
HERE = Path(__file__).parent
CSV, PICTURE = HERE / "growth.csv", HERE.parent / "docs" / "images" / "scale.png"
# line: (rows, users, items) of its points
LINES = {
    "rows": [
        (10_000, 500, 100),
        (100_000, 2_000, 500),
        (1_000_000, 20_000, 5_000),
        (10_000_000, 100_000, 20_000),
        (100_000_000, 200_000, 50_000),
    ],
    "levels": [
        (1_000_000, 100, 100),
        (1_000_000, 2_000, 1_000),
        (1_000_000, 20_000, 5_000),
        (1_000_000, 200_000, 100_000),
    ],
}
# Rows up to which a point is repeated, of a batch, and of data that are fitted in batches alone.
_REPEATED, _BATCH, _IN_BATCHES = 100_000, 500_000, 100_000_000
# The data of a fit before the one that counts, which imports and compiles; rows from which the
# limit of time grows; wall time that no process may take, as a multiple of it.
_WARM, _LARGE, _PATIENCE = (2_000, 100, 50), 1e7, 8
_COLUMNS = {"y": np.float64, "x": np.float64, "user": np.int32, "item": np.int32}
_SIZES = ["rows", "users", "items"]
_FIELDS = [*_SIZES, "package", "run", "wall", "cpu", "gib", "theta", "ended"]


def write_columns(folder, n_rows, n_users, n_items, seed=0):
    """One binary file for every column; items are long-tailed, every level occurs."""
    rng = np.random.default_rng(seed)
    user_effect, item_effect = rng.normal(0, 0.8, n_users), rng.normal(0, 0.6, n_items)
    popularity = np.cumsum(rng.lognormal(0, 1.0, n_items))
    files = {name: open(Path(folder) / name, "wb") for name in _COLUMNS}
    for start in range(0, n_rows, _BATCH):
        n = min(_BATCH, n_rows - start)
        user = rng.integers(0, n_users, n)
        item = np.searchsorted(popularity, rng.uniform(0, popularity[-1], n)).clip(0, n_items - 1)
        if not start:
            user[:n_users], item[-n_items:] = np.arange(n_users), np.arange(n_items)
        x = rng.normal(0, 1, n)
        y = 1 + 0.5 * x + user_effect[user] + item_effect[item] + rng.normal(0, 1, n)
        for (name, dtype), values in zip(_COLUMNS.items(), (y, x, user, item), strict=True):
            files[name].write(values.astype(dtype).tobytes())
    for file in files.values():
        file.close()


def _read(folder, start=0, count=-1):
    """The frame of ``count`` rows from one on, -1 for all of them."""
    columns = {}
    for name, dtype in _COLUMNS.items():
        offset = start * np.dtype(dtype).itemsize
        columns[name] = np.fromfile(Path(folder) / name, dtype, count, offset=offset)
    return pd.DataFrame(columns)


def _batches(folder):
    n_rows = os.path.getsize(Path(folder) / "user") // 4
    for start in range(0, n_rows, _BATCH):
        yield _read(folder, start, min(_BATCH, n_rows - start))


def _skmixed(folder):
    from skmixed import MixedLinearRegressor

    frame = _read(folder)
    return lambda: MixedLinearRegressor(FORMULA).fit(frame).theta_


def _skmixed_batches(folder):
    from skmixed import MixedLinearRegressor

    model = MixedLinearRegressor(FORMULA)
    return lambda: model.fit_batches(lambda: _batches(folder)).theta_


def _mixedlm(folder):
    import mixedlm

    frame = _read(folder)
    return lambda: mixedlm.lmer(FORMULA, frame).theta


def _gpboost(folder):
    import gpboost

    frame = _read(folder)
    groups, y = frame[["user", "item"]].to_numpy(), frame["y"].to_numpy()
    X = np.column_stack([np.ones(len(frame)), frame["x"]])

    def fit():
        model = gpboost.GPModel(group_data=groups, likelihood="gaussian").fit(y=y, X=X)
        variances = np.asarray(model.get_cov_pars()).ravel()
        return np.sqrt(variances[1:3] / variances[0])

    return fit


IN_PYTHON = {
    "skmixed": _skmixed,
    "skmixed, in batches": _skmixed_batches,
    "mixedlm": _mixedlm,
    "gpboost": _gpboost,
}
PACKAGES = [*IN_PYTHON, "lme4"]


def child(package, folder):
    """Fit in this process and tell what it took."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        IN_PYTHON[package](Path(folder) / "warm")()
        fit = IN_PYTHON[package](folder)
        print("start", flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        theta = fit()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print("took", wall, cpu, *(f"{value:.6g}" for value in theta))


def run(package, folder, n_rows, seconds, gib):
    """One fit: a dict of the fields of the table from ``wall`` on."""
    if package == "lme4":
        sizes = [str(n_rows), str(_WARM[0])]
        command = ["Rscript", str(HERE / "growth.R"), str(folder), *sizes]
    else:
        command = [sys.executable, "-m", "benchmarks.bench_growth", "--child", package, str(folder)]
    limit = int(gib * 2**30)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    errors, lines = [], []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    timer = threading.Timer(_PATIENCE * seconds, process.kill)  # should it wait for ever
    timer.start()
    for line in process.stdout:
        if line.startswith("start"):
            until = int(_processor_seconds(process.pid) + seconds)
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (until, until))
        lines.append(line)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    reader.join()
    found = {"gib": round(usage.ru_maxrss / 2**20, 3)}
    told = [line.split()[1:] for line in lines if line.startswith("took ")]
    if told:
        wall, cpu, *theta = told[0]
        return found | {"wall": wall, "cpu": cpu, "theta": " ".join(theta), "ended": ""}
    late = process.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    return found | {"ended": f"{seconds:g} s" if late else _reason(errors[0], gib)}


def _processor_seconds(pid):
    """Seconds of the processor that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _reason(errors, gib):
    """Why a process ended without a fit."""
    lowered = errors.lower()
    if any(word in lowered for word in ("memory", "bad_alloc", "allocate")) or not errors:
        return f"{gib:g} GiB"
    return errors.strip().splitlines()[-1][:80]


def measure(options):
    """Fit everything, one row of the table after the other."""
    done = _measured(options)
    with open(options.csv, "a" if done else "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _FIELDS)
        if not done:
            table.writeheader()
        for line in options.lines:
            taking_part = list(options.packages)
            for size in LINES[line]:
                if size[0] > options.most:
                    continue
                for row in _point(size, taking_part, done, options):
                    table.writerow(row)
                    file.flush()
                    print(*row.values(), sep=" | ", flush=True)


def _measured(options):
    """{(rows, users, package, run): why it ended} of a table that is to be gone on with."""
    if not options.resume or not os.path.exists(options.csv):
        return {}
    with open(options.csv, newline="", encoding="utf-8") as file:
        return {
            (int(row["rows"]), int(row["users"]), row["package"], int(row["run"])): row["ended"]
            for row in csv.DictReader(file)
        }


def _point(size, taking_part, done, options):
    """Rows of the table for one size; packages that do not finish are taken off the list.

    What is ``done`` already, on another line maybe, is not measured again.
    """
    repeats = options.repeats if size[0] <= _REPEATED else 1
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        warm.mkdir()
        write_columns(warm, *_WARM)
        write_columns(folder, *size)
        for number in range(repeats):
            for package in list(taking_part):
                if size[0] >= _IN_BATCHES and package == "skmixed":
                    continue  # more than the memory that all are given, with the data
                key = (*size[:2], package, number)
                if key not in done:
                    seconds = options.seconds * max(1.0, size[0] / _LARGE)
                    found = run(package, folder, size[0], seconds, options.gib)
                    done[key] = found["ended"]
                    sizes = dict(zip(_SIZES, size, strict=True))
                    yield {**sizes, "package": package, "run": number, **found}
                if done[key]:
                    taking_part.remove(package)


_COLOURS = {
    "skmixed": "#1b4f8f",
    "skmixed, in batches": "#3fa0d9",
    "mixedlm": "#b5651d",
    "gpboost": "#4c9a4c",
    "lme4": "#8a3d8a",
}


def draw(table, path):
    """Medians of time and peak memory by size, one column for every line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.2), sharex="col", sharey="row")
    for column, (line, by) in enumerate((("rows", "rows"), ("levels", "levels"))):
        sizes = pd.MultiIndex.from_frame(table[_SIZES])
        own = table.assign(levels=table["users"] + table["items"])[sizes.isin(LINES[line])]
        for package in PACKAGES:
            fits = own[own["package"] == package]
            for row, name in enumerate(("cpu", "gib")):
                _draw_line(axes[row, column], fits, by, name, package)
        axes[1, column].set_xlabel(
            "rows (levels grow with them)" if line == "rows" else "levels of both, 1 M rows"
        )
    for ax in axes.flat:
        ax.set(xscale="log", yscale="log")
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("seconds of the processor")
    axes[1, 0].set_ylabel("peak memory, GiB, with the data")
    for ax in axes[1]:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_minor_locator(NullLocator())
    for ax in axes[:, 0]:
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=200)


def _draw_line(ax, fits, by, name, package):
    done = fits[fits["ended"].isna()]
    medians = done.groupby(by)[name].median()
    colour = _COLOURS[package]
    ax.plot(medians.index, medians, "o-", color=colour, label=package, markersize=4)
    ended = fits[fits["ended"].notna()]
    if len(ended) and len(medians):
        ax.plot(medians.index[-1], medians.iloc[-1], "x", color=colour, markersize=10, mew=2)


def show(table):
    """Print the medians as a table."""
    print("| rows | users x items | package | median | processor | peak memory | theta |")
    print("|--:|--:|:--|--:|--:|--:|:--|")
    for (rows, users, items, package), fits in table.groupby([*_SIZES, "package"], sort=False):
        size = f"| {rows:,} | {users:,} x {items:,} | {package} "
        if fits["ended"].notna().any():
            print(f"{size}| ends: {fits['ended'].dropna().iloc[0]} | | | |")
            continue
        cells = (f"{median(fits['wall']):.2f} s", f"{median(fits['cpu']):.2f} s")
        print(f"{size}| {cells[0]} | {cells[1]} | {fits['gib'].max():.2f} GiB | "
              f"{fits['theta'].iloc[0]} |")  # fmt: skip


def main():
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", nargs=2, metavar=("PACKAGE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help="measure what the table lacks")
    parser.add_argument("--plot", action="store_true", help="only draw what the table holds")
    parser.add_argument("--csv", default=str(CSV), help="the table of measurements")
    parser.add_argument("--picture", default=str(PICTURE))
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=PACKAGES)
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--most", type=float, default=1e8, help="rows")
    parser.add_argument("--repeats", type=int, default=3, help="up to 100,000 rows")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gib", type=float, default=12.0)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    if not options.plot:
        measure(options)
    table = pd.read_csv(options.csv, dtype={"ended": object})
    show(table)
    draw(table, options.picture)


if __name__ == "__main__":
    main()
