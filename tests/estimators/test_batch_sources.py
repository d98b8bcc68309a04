"""Batches from Parquet files, pyarrow data sets and Dask give the fit of the rows in memory."""

import builtins
import os

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor

FORMULA = "y ~ x + kind + (x | user) + (1 | item)"


def _table(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 80, n), rng.integers(0, 30, n)
    x = rng.normal(2, 1, n)
    effect = rng.normal(0, 1, 80)[user] + x * rng.normal(0, 0.5, 80)[user]
    return pd.DataFrame(
        {
            "y": x + effect + rng.normal(0, 0.7, 30)[item] + rng.normal(0, 1, n),
            "x": x,
            "kind": rng.choice(["b", "a", "c"], n),
            "user": [f"u{k}" for k in user],
            "item": item,
            "not_used": "text",
        }
    )


def _assert_same(found, expected, table):
    np.testing.assert_allclose(found.theta_, expected.theta_, rtol=1e-10)
    np.testing.assert_allclose(found.deviance_, expected.deviance_, rtol=1e-10)
    pd.testing.assert_series_equal(found.fixed_effects_, expected.fixed_effects_, rtol=1e-10)
    assert list(found.feature_names_in_) == list(expected.feature_names_in_)
    for group, effects in expected.random_effects_.items():
        own = found.random_effects_[group]
        assert own.index.tolist() == effects.index.tolist()
        np.testing.assert_allclose(own, effects, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.predict(table), expected.predict(table), rtol=1e-9)


@pytest.fixture(scope="module")
def table():
    return _table()


@pytest.fixture(scope="module")
def expected(table):
    return MixedLinearRegressor(FORMULA).fit(table)


@pytest.fixture
def files(tmp_path, table):
    pytest.importorskip("pyarrow")
    paths = []
    for k, start in enumerate(range(0, len(table), 1500)):
        paths.append(tmp_path / f"part{k}.parquet")
        table[start : start + 1500].to_parquet(paths[-1], row_group_size=600)
    return paths


def test_parquet_files_and_folders(files, table, expected, tmp_path):
    for source in (files, [str(path) for path in files], tmp_path, str(tmp_path)):
        _assert_same(MixedLinearRegressor(FORMULA).fit_batches(source), expected, table)
    one = MixedLinearRegressor(FORMULA).fit_batches(files[0])
    _assert_same(one, MixedLinearRegressor(FORMULA).fit(table[:1500]), table)


def test_arrow_data_sets_tables_and_dictionaries(files, table, expected):
    pa = pytest.importorskip("pyarrow")
    ds = pytest.importorskip("pyarrow.dataset")
    whole = pa.table(table)
    at = whole.schema.get_field_index("user")
    coded = whole.set_column(at, "user", whole.column("user").dictionary_encode())
    for source in (ds.dataset([str(path) for path in files]), whole, ds.dataset(coded)):
        model = MixedLinearRegressor(FORMULA).fit_batches(source)
        np.testing.assert_allclose(model.theta_, expected.theta_, rtol=1e-10)
        np.testing.assert_allclose(model.predict(table), expected.predict(table), rtol=1e-9)
    found = list(expected.predict_batches(whole))
    np.testing.assert_allclose(np.concatenate(found), expected.predict(table), rtol=1e-9, atol=1e-9)


def test_a_path_without_a_file(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nothing\.parquet"):
        MixedLinearRegressor(FORMULA).fit_batches(tmp_path / "nothing.parquet")


def test_an_empty_folder(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match="no Parquet file in"):
        MixedLinearRegressor(FORMULA).fit_batches(tmp_path)


def test_a_file_without_a_column_is_not_left_out_as_missing(files, table):
    table[3000:].drop(columns="item").to_parquet(files[-1])
    for missing in ("raise", "drop"):
        with pytest.raises(ValueError, match=r"part2\.parquet' has no column 'item'"):
            MixedLinearRegressor(FORMULA, missing=missing).fit_batches(files)
    MixedLinearRegressor("y ~ x + (x | user)").fit_batches(files)


def test_columns_that_folders_tell(table, expected, tmp_path):
    pytest.importorskip("pyarrow")
    ds = pytest.importorskip("pyarrow.dataset")
    for kind, rows in table.groupby("kind"):
        folder = tmp_path / f"kind={kind}"
        folder.mkdir()
        rows.drop(columns="kind").to_parquet(folder / "rows.parquet")
    for source in (ds.dataset(tmp_path, partitioning="hive"), tmp_path, str(tmp_path)):
        model = MixedLinearRegressor(FORMULA).fit_batches(source)
        np.testing.assert_allclose(model.theta_, expected.theta_, rtol=1e-9)
    found = np.concatenate(list(model.predict_batches(tmp_path)))
    np.testing.assert_allclose(found, expected.predict(table.sort_values("kind", kind="stable")))
    table.drop(columns=["kind", "x"]).to_parquet(tmp_path / "kind=c" / "rows.parquet")
    with pytest.raises(ValueError, match="has no column 'x'"):
        MixedLinearRegressor(FORMULA, missing="drop").fit_batches(tmp_path)


def test_files_whose_columns_are_of_other_types(files, table):
    table[:1500].assign(item=table["item"].astype(str)).to_parquet(files[0])
    with pytest.raises(ValueError, match="must be of one type everywhere"):
        MixedLinearRegressor(FORMULA).fit_batches(files)


def test_text_that_looks_like_numbers_is_no_number(files, table):
    table[3000:].assign(item=table["item"].astype(str)).to_parquet(files[-1])
    with pytest.raises(ValueError, match=r"'item' is of type int64 in the first file and .*string"):
        MixedLinearRegressor(FORMULA).fit_batches(files)


def test_parquet_without_pyarrow_tells_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"")
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'scikit-mixed\[arrow\]'"):
        MixedLinearRegressor(FORMULA).fit_batches(path)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_dask_schedulers(scheduler, table, expected):
    dask = pytest.importorskip("dask")
    dd = pytest.importorskip("dask.dataframe")
    source = dd.from_pandas(table, npartitions=5)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        found = MixedLinearRegressor(FORMULA).fit_batches(source)
        _assert_same(found, expected, table)
        parts = list(found.predict_batches(source))
    assert len(parts) == 5
    np.testing.assert_allclose(np.concatenate(parts), expected.predict(table), rtol=1e-9)


def test_dask_tells_its_progress(table, capsys):
    dd = pytest.importorskip("dask.dataframe")
    source = dd.from_pandas(table, npartitions=3)
    MixedLinearRegressor(FORMULA, verbose=1).fit_batches(source)
    told = capsys.readouterr()
    text = told.out + told.err
    assert "cross-products" in text
    assert "4.00k" in text or "4,000 rows" in text


def test_dask_categories(table):
    dd = pytest.importorskip("dask.dataframe")
    coded = table.astype({"kind": pd.CategoricalDtype(["c", "a", "b"]), "user": "category"})
    found = MixedLinearRegressor(FORMULA).fit_batches(dd.from_pandas(coded, npartitions=3))
    _assert_same(found, MixedLinearRegressor(FORMULA).fit(coded), coded)


def test_dask_over_parquet(files, table, expected):
    dd = pytest.importorskip("dask.dataframe")
    source = dd.read_parquet([str(path) for path in files])
    found = MixedLinearRegressor(FORMULA).fit_batches(source)
    np.testing.assert_allclose(found.theta_, expected.theta_, rtol=1e-10)


def test_a_cluster_and_the_death_of_its_workers(table, expected):
    dask = pytest.importorskip("dask")
    dd = pytest.importorskip("dask.dataframe")
    distributed = pytest.importorskip("distributed")
    source = dd.from_pandas(table, npartitions=5)
    deadly = source.map_partitions(lambda part: os._exit(1), meta=source._meta)
    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        found = MixedLinearRegressor(FORMULA).fit_batches(source)
        _assert_same(found, expected, table)
        with pytest.raises(RuntimeError, match="Dask lost the workers"):
            MixedLinearRegressor(FORMULA).fit_batches(deadly)


def test_an_error_in_a_partition_passes_through(table):
    dd = pytest.importorskip("dask.dataframe")
    source = dd.from_pandas(table.assign(y=1.0), npartitions=2)
    with pytest.raises(ValueError, match="response is constant"):
        MixedLinearRegressor(FORMULA).fit_batches(source)
    source = dd.from_pandas(table.assign(x=np.where(table.index == 7, np.nan, 1.0)), npartitions=2)
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in x \(1\)"):
        MixedLinearRegressor(FORMULA).fit_batches(source)


def test_dask_needs_a_data_frame(table):
    dd = pytest.importorskip("dask.dataframe")
    with pytest.raises(TypeError, match="of Dask a DataFrame is read"):
        MixedLinearRegressor(FORMULA).fit_batches(dd.from_pandas(table["y"], npartitions=1))
