"""Fitted models in files: what pickle, joblib and skops see, and the plain dictionary."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from skmixed._version import __version__
from skmixed._warn import warn
from skmixed.estimators._plain import Malformed, Reader, Writer

_FORMAT, _SCHEMA = "skmixed.model", 1
_KEYS = ("format", "schema", "version", "estimator", "params", "fitted")


class ModelVersionWarning(InconsistentVersionWarning):
    """A model was saved under another version of skmixed than the one that reads it.

    Parameters
    ----------
    estimator_name : str
    current_sklearn_version, original_sklearn_version : str
        Versions of skmixed, under the names that scikit-learn gives them.
    """

    def __str__(self):
        return (
            f"{self.estimator_name} was saved by skmixed {self.original_sklearn_version} and is "
            f"read by {self.current_sklearn_version}: its answers may be wrong or fail. Fit it "
            "again, or read it with the version that saved it"
        )


class PythonFormula:
    """Stands in files beside a model whose formula is run as Python code (``trusted=True``).

    Who reads such a file with skops has to trust this type too.
    """


class Storable:
    """A fitted estimator whose saved state is numbers, texts and NumPy arrays."""

    def __getstate__(self):
        state = super().__getstate__()
        writer = Writer(strict=False)
        made: dict[str, Any] = {
            "_skmixed_version": __version__,
            "_skmixed_state": {name: writer.write(own, name) for name, own in state.items()},
        }
        if getattr(self, "trusted", False):
            made["_skmixed_code"] = PythonFormula()
        return made

    def __setstate__(self, state):
        version = state.get("_skmixed_version", "0.1 or earlier")
        tree = state.get("_skmixed_state")
        if version != __version__:
            self._tell_version(version)
        if tree is not None:
            trusted = isinstance(state.get("_skmixed_code"), PythonFormula)
            if tree.get("trusted") is True and not trusted:
                raise Malformed(f"{type(self).__name__} {_CODE}")
            state = self._read_attributes(tree, Reader(strict=False, trusted=trusted))
        self.__dict__.update(state)

    def __copy__(self):
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    @classmethod
    def _tell_version(cls, version):
        told = ModelVersionWarning(
            estimator_name=cls.__name__,
            current_sklearn_version=__version__,
            original_sklearn_version=version,
        )
        warn(told, ModelVersionWarning)

    def _attributes_of_fit(self):
        """Parameters and what the fit found, without those who listened to it."""
        return {name: own for name, own in vars(self).items() if name != "_skl_callbacks"}

    @staticmethod
    def _read_attributes(tree, reader):
        return {name: reader.read(own, name) for name, own in tree.items()}

    def to_dict(self) -> dict:
        """The fitted model as numbers, texts, lists and dictionaries that JSON can hold.

        It holds what a pickle holds, and no code: neither the rows of the fit nor, where it is
        large, the factor that standard errors of predictions need (see ``keep_factor``).

        Returns
        -------
        dict
            ``format`` and ``schema`` of the dictionary, the ``version`` of skmixed, the name of the
            ``estimator``, its ``params`` and all that was ``fitted``.

        Raises
        ------
        NotFittedError
            Before fit.
        ValueError
            For a model with parts that are code: ``trusted=True``, functions among its parameters.

        Examples
        --------
        >>> import json
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
        >>> text = json.dumps(model.to_dict(), allow_nan=False)
        >>> again = MixedLinearRegressor.from_dict(json.loads(text))
        >>> again.predict(sleep[:2]).round(2)
        array([253.66, 273.33])
        """
        check_is_fitted(self)
        who = type(self).__name__
        if getattr(self, "trusted", False):
            raise ValueError(
                f"{who}.to_dict: a model with trusted=True may run its formula as Python code, "
                "which the plain form never holds. Fit with trusted=False, or use pickle"
            )
        writer, params = Writer(strict=True), self.get_params(deep=False)  # type: ignore[attr-defined]
        attributes = self._attributes_of_fit()
        fitted = {name: own for name, own in attributes.items() if name not in params}
        return {
            "format": _FORMAT,
            "schema": _SCHEMA,
            "version": __version__,
            "estimator": who,
            "params": {k: writer.write(v, f"{who}.{k}") for k, v in params.items()},
            "fitted": {k: writer.write(v, f"{who}.{k}") for k, v in fitted.items()},
        }

    @classmethod
    def from_dict(cls, d: dict):
        """The fitted model of a dictionary that :meth:`to_dict` has made.

        The dictionary may come from anywhere: nothing in it is run, and what is no model of this
        class is an error. That a model is one says nothing of its answers, so read only what was
        written by someone you know.

        Parameters
        ----------
        d : dict

        Returns
        -------
        A fitted model of this class.

        Raises
        ------
        ValueError
            For a dictionary of another format, schema or class, and for one that is damaged; the
            message says where.

        Warns
        -----
        ModelVersionWarning
            The dictionary was written by another version of skmixed.
        """
        who = f"{cls.__name__}.from_dict"
        try:
            cls._check_head(d)
            reader = Reader(strict=True, limit=_leaves(d))
            params = cls._read_attributes(d["params"], reader)
            if params.get("trusted"):
                raise Malformed(f"the model {_CODE}")
            model = cls._of_parts(params, cls._read_attributes(d["fitted"], reader))
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                model._check_restored()
        except Malformed as error:
            raise ValueError(f"{who}: {error}. {_REMEDY}") from error
        except Exception as error:  # of whatever does not fit together
            raise ValueError(
                f"{who}: the parts of the dictionary do not fit together: "
                f"{type(error).__name__}: {error}. {_REMEDY}"
            ) from error
        if d["version"] != __version__:
            cls._tell_version(d["version"])
        return model

    @classmethod
    def _check_head(cls, d):
        if type(d) is not dict or d.get("format") != _FORMAT:
            raise Malformed(f"needs a dict with the format {_FORMAT!r}, got {_shown(d)}")
        if d.get("schema") != _SCHEMA:
            raise Malformed(
                f"the dictionary has the schema {d.get('schema')!r} and this version of skmixed "
                f"({__version__}) reads {_SCHEMA}: it was written by {d.get('version')!r}"
            )
        if d.get("estimator") != cls.__name__:
            raise Malformed(f"the dictionary is of the class {d.get('estimator')!r}")
        for key in _KEYS:
            if key not in d:
                raise Malformed(f"the dictionary lacks {key!r}")
        if type(d["version"]) is not str or len(d["version"]) > 100:
            raise Malformed(f"the version is {_shown(d['version'])}")
        for key in ("params", "fitted"):
            if type(d[key]) is not dict or not all(type(name) is str for name in d[key]):
                raise Malformed(f"{key!r} is {_shown(d[key])}")

    @classmethod
    def _of_parts(cls, params, fitted):
        """A model with these parameters and attributes."""
        unknown = set(params) ^ set(cls._get_param_names())
        if unknown:
            raise Malformed(f"the params are not those of the class: {min(unknown)!r}")
        for name in fitted:
            # what fits set, and nothing that stands in the way of a method
            if name in params or not (name.endswith("_") or name.startswith("_")):
                raise Malformed(f"{name!r} is nothing that a fit finds")
            if name.startswith("__") or hasattr(cls, name):
                raise Malformed(f"{name!r} is no attribute of a fit")
        model = cls(**params)
        model._validate_params()
        model.__dict__.update(fitted)
        return model

    @classmethod
    def _of_attributes(cls, values):
        """A model within another one."""
        names = cls._get_param_names()
        params = {name: own for name, own in values.items() if name in names}
        return cls._of_parts(params, {k: own for k, own in values.items() if k not in params})

    def _check_restored(self):
        """Raise an error where what was read is no fitted model; sub-classes look closer."""
        check_is_fitted(self)


_CODE = "asks for a formula to be run as Python code"
_REMEDY = "Read a dictionary that to_dict of the same class has made, unchanged"


def _shown(value):
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) < 80 else f"{text[:80]}..."


def _leaves(tree):
    """The number of values in a tree, which no size in it is above."""
    count, waiting = 0, [tree]
    while waiting:
        own = waiting.pop()
        count += 1
        if type(own) is dict:
            waiting.extend(own.values())
        elif type(own) is list:
            waiting.extend(own)
    return count
