"""Questions to fitted mixed models: tables, tests, intervals; skmixed.inference answers them."""

from __future__ import annotations

from copy import copy

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skmixed.design.levels import find_levels
from skmixed.estimators._attributes import FittedMixedModel
from skmixed.inference.anova import anova_of_terms
from skmixed.inference.bootstrap import bootstrap
from skmixed.inference.coefficients import coefficient_table
from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.hypotheses import Hypothesis, contrast
from skmixed.inference.intervals import confint, variance_components
from skmixed.inference.noted import NotedTable
from skmixed.inference.refits import with_fixed
from skmixed.inference.shares import shares_of

VCOV_KINDS = ("model", "kenward_roger")


def _places(levels, wanted, group):
    """Places of levels of a grouping factor, all of which it has."""
    if isinstance(wanted, str) or not np.iterable(wanted):
        raise ValueError(f"levels of {group!r} must be a list, got {wanted!r}: write [{wanted!r}]")
    wanted = pd.Index(list(wanted))
    places = find_levels(levels, wanted)
    if (places < 0).any():
        unknown = wanted[places < 0].tolist()
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(f"{group!r} had no level {shown} at the fit")
    return places


class AnswersQuestions(FittedMixedModel):
    """Inference on a mixed model that keeps its fit in ``result_`` and its names in ``labels_``.

    ``ddf`` says how denominator degrees of freedom are found: ``"satterthwaite"`` (the default of
    linear mixed models), ``"kenward_roger"`` (REML fits; adjusts standard errors too),
    ``"residual"`` (the default without random effects, where the former two are the same) or
    ``"asymptotic"``, which makes t a z and is all that generalised models have.
    """

    def coefficients(self, ddf=None, level=0.95) -> NotedTable:
        """Estimates of the fixed effects with standard errors, tests and intervals.

        Parameters
        ----------
        ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional
        level : float
            Of the intervals, between 0 and 1.

        Returns
        -------
        NotedTable
            A DataFrame with estimate, std_error, df, t (z where df are infinite), p_value, lower
            and upper by parameter. Columns that were left out of the fit are NaN.

        Raises
        ------
        ValueError
            For a level outside (0, 1), degrees of freedom that the fit has not, and a model that
            was loaded from a file without what they need.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
        >>> model.coefficients().round(3)
                   estimate  std_error    df       t  p_value    lower    upper
        parameter
        Intercept   251.405      6.825  17.0  36.838      0.0  237.007  265.804
        Days         10.467      1.546  17.0   6.771      0.0    7.206   13.729
        """
        check_is_fitted(self)
        return coefficient_table(self, ddf=ddf, level=level, rows=self._coefficient_rows)

    def anova(self, type=3, ddf=None) -> NotedTable:
        """Tests by term, whatever the coding of the factors.

        Parameters
        ----------
        type : {1, 2, 3}
            1: each term after those before it. 2: each after all that do not contain it. 3: the
            functions of a term and of the terms containing it that are orthogonal to what the
            latter have alone; without empty cells they compare unweighted marginal means.
        ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional

        Returns
        -------
        NotedTable
            A DataFrame by term: of linear models sum_sq, mean_sq, num_df, den_df, F and p_value,
            of generalised ones chi2, df and p_value (Wald tests).

        Raises
        ------
        ValueError
            For another type, and as :meth:`coefficients`.

        References
        ----------
        Goodnight (1980), Tests of hypotheses in fixed effects linear models, Communications in
        Statistics A9, 167-180.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_cake
        >>> formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
        >>> model = MixedLinearRegressor(formula).fit(load_cake().frame)
        >>> model.anova()[["num_df", "den_df", "F", "p_value"]].round(4)
                            num_df  den_df        F  p_value
        term
        recipe                   2    42.0   0.2488   0.7809
        temperature              5   210.0  20.5199   0.0000
        recipe:temperature      10   210.0   1.0062   0.4393
        """
        check_is_fitted(self)
        return anova_of_terms(self, type, ddf)

    def contrast(self, K, rhs=0.0, ddf=None) -> Hypothesis:
        """Estimate and test of K beta = rhs.

        Parameters
        ----------
        K : (p,) or (d, p) array, dict of coefficients by name, or several of these
            The intercept is a coefficient like others. Several dicts as a list or by name,
            ``{"name": {...}}``. One row is tested by t, several by F.
        rhs : float or (d,)
        ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional

        Returns
        -------
        Hypothesis
            With estimate, standard_error, statistic, df_num, df_den and p_value.

        Raises
        ------
        NotEstimableError
            The data do not determine K beta; the message names the dependency.
        ValueError
            For unknown coefficients or a K of another width, and as :meth:`coefficients`.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_machines
        >>> formula = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"
        >>> model = MixedLinearRegressor(formula).fit(load_machines().frame)
        >>> test = model.contrast({"C - B": {"Machine[T.C]": 1, "Machine[T.B]": -1}})
        >>> print(f"{test.estimate:.2f}, t({test.df_den:.1f}) = {test.statistic:.3f}")
        5.95, t(10.0) = 2.733
        """
        check_is_fitted(self)
        return contrast(FixedEffects.of(self), K, rhs, ddf)

    def vcov(self, kind="model") -> pd.DataFrame:
        """Covariance of the fixed effects.

        Parameters
        ----------
        kind : {"model", "kenward_roger"}
            ``vcov_``, or with Kenward and Roger's adjustment for estimated variances.

        Returns
        -------
        DataFrame (p, p)
            NaN for columns that were left out.
        """
        check_is_fitted(self)
        if kind not in VCOV_KINDS:
            raise ValueError(f"kind must be 'model' or 'kenward_roger', got {kind!r}")
        if kind == "model":
            return self.vcov_
        rows, effects = self._coefficient_rows, FixedEffects.of(self)
        K = np.nan_to_num(rows) @ self.result_.basis.combinations.T
        vcov = effects.covariance(K, kind)
        lost = np.isnan(rows).any(axis=1)
        vcov[lost] = vcov[:, lost] = np.nan
        return pd.DataFrame(vcov, index=list(effects.names), columns=list(effects.names))

    def confint(
        self,
        parameters=None,
        method="wald",
        level=0.95,
        ddf=None,
        *,
        X=None,
        y=None,
        groups=None,
        sample_weight=None,
        random_state=None,
    ) -> pd.DataFrame:
        """Confidence intervals of fixed effects, standard deviations, correlations and sigma.

        Parameters
        ----------
        parameters : str or list of str, optional
            Names as in the index of the result, such as ``"Days"``, ``"sd_(Intercept)|Subject"``,
            ``"cor_Days.(Intercept)|Subject"`` and ``"sigma"``; all of them by default.
        method : {"wald", "profile", "bootstrap"}
            The last one are percentiles of 1,000 refits of the parametric bootstrap.
        level : float
            Coverage, between 0 and 1.
        ddf : str, optional
            Of Wald intervals of fixed effects.
        X, y, groups, sample_weight : optional
            The data of the fit, which the bootstrap and profiles of generalised models need.
        random_state : int, Generator, RandomState or None
            Of the bootstrap.

        Returns
        -------
        DataFrame
            estimate, lower and upper by parameter; ``attrs["notes"]`` says which limits are bounds.

        See Also
        --------
        skmixed.inference.intervals.confint : how the limits are found.
        skmixed.inference.bootstrap : other kinds of bootstrap, other limits.
        """
        check_is_fitted(self)
        if method == "bootstrap":
            if X is None or ddf is not None:
                raise ValueError(
                    "method='bootstrap' draws new responses for the data of the fit: give X, and y "
                    "if the fit had one, and no ddf"
                )
            given = {"groups": groups, "sample_weight": sample_weight}
            boot = bootstrap(self, X, y, random_state=random_state, **given)
            return boot.confint(parameters, level=level)
        return confint(
            self.result_,
            parameters,
            method=method,
            level=level,
            ddf=ddf,
            rows=self._coefficient_rows,
            problem=None if X is None else self._problem_of(X, y, groups, sample_weight),
        )

    def _problem_of(self, X, y, groups, sample_weight):
        """The rows of a generalised model once more; a linear one needs none."""
        family = getattr(self.result_, "family", None)
        if family is None:
            return None
        return copy(self)._problem(family, X, y, groups, sample_weight)[2]

    def variance_components(self, level=0.95, information="observed") -> pd.DataFrame:
        """Variances of the random effects and of the residual with standard errors.

        Parameters
        ----------
        level : float
            Of the limits, between 0 and 1.
        information : {"observed", "expected"}
            Second derivatives of the criterion, or their expectation.

        Returns
        -------
        DataFrame
            group, effect, variance, std_dev, and of the variance std_error, lower and upper; NaN
            for a variance estimated as zero.
        """
        check_is_fitted(self)
        return variance_components(self.result_, level=level, information=information)

    def random_effects(self, std="conditional") -> dict[str, pd.DataFrame]:
        """Conditional modes with standard errors.

        Parameters
        ----------
        std : {"conditional", "prediction"}
            Standard deviations of b given the response, theta and beta (``random_effects_std_``);
            or of b-hat - b, where beta is estimated too.

        Returns
        -------
        dict of str to DataFrame
            For every grouping factor estimate and std_error by level and effect.
        """
        check_is_fitted(self)
        errors = self._by_group(self.result_.effects_std(std))
        return {
            group: pd.DataFrame(
                {
                    "estimate": table.to_numpy().ravel(),
                    "std_error": errors[group].to_numpy().ravel(),
                },
                index=pd.MultiIndex.from_product(
                    [table.index, table.columns], names=[group, "effect"]
                ),
            )
            for group, table in self.random_effects_.items()
        }

    def random_effects_std(self, levels) -> dict[str, pd.DataFrame]:
        """Conditional standard deviations of some levels, exact with every solver.

        Those of all levels are ``random_effects_std_``, which the iterative solver approximates.

        Parameters
        ----------
        levels : dict of str to list
            Levels of grouping factors, by the factor's name.

        Returns
        -------
        dict of str to DataFrame
            As ``random_effects_std_``, with the rows that were asked for.

        Raises
        ------
        ValueError
            For factors and levels that the fit did not have.
        """
        check_is_fitted(self)
        terms = [(t, term) for t, term in enumerate(self.labels_.terms) if not term.is_smooth]
        found = {}
        for group, wanted in levels.items():
            own = [(t, term) for t, term in terms if term.group == group]
            if not own:
                known = ", ".join(dict.fromkeys(repr(term.group) for _, term in terms)) or "none"
                raise ValueError(f"{group!r} is not a grouping factor of the model: it has {known}")
            places = _places(self.labels_.levels[group], wanted, group)
            index = self.labels_.levels[group][places].rename(group)
            std = [self.result_.level_std(t, places) for t, _ in own]
            names = [name for _, term in own for name in term.names]
            found[group] = pd.DataFrame(np.hstack(std), index=index, columns=names)
        return found

    def r2(self, X=None, y=None, *, groups=None) -> pd.Series:
        """Shares of variance explained by the fixed effects, and with the random effects.

        On the scale of the linear predictor: of a generalised model the residual variance is that
        of its link (logit, probit, cloglog; Poisson models with a log link).

        Parameters
        ----------
        X, y, groups : optional
            The data of the fit, which Poisson models need: their residual variance is log(1 + 1 /
            mu), mu the mean of the model without fixed effects, which is fitted to them.

        Returns
        -------
        Series
            marginal and conditional.

        References
        ----------
        Nakagawa, Johnson and Schielzeth (2017), Journal of the Royal Society Interface 14,
        20170213; Johnson (2014), Methods in Ecology and Evolution 5, 944-946, for random slopes.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep).r2().round(3)
        marginal       0.279
        conditional    0.799
        Name: r2, dtype: float64
        """
        check_is_fitted(self)
        shares = shares_of(self, self._null_mean(X, y, groups))
        values = {"marginal": shares.marginal, "conditional": shares.conditional}
        return pd.Series(values, name="r2")

    def icc(self, X=None, y=None, *, groups=None) -> pd.Series:
        """Intraclass correlations: the share of the random effects in the variance.

        Parameters
        ----------
        X, y, groups : optional
            As for :meth:`r2`.

        Returns
        -------
        Series
            adjusted (of the variance that the fixed effects leave) and unadjusted (of all of it).
        """
        check_is_fitted(self)
        shares = shares_of(self, self._null_mean(X, y, groups))
        values = {"adjusted": shares.icc_adjusted, "unadjusted": shares.icc_unadjusted}
        return pd.Series(values, name="icc")

    def _null_mean(self, X, y, groups):
        """Mean at the intercept of the model without fixed effects, where a link asks for it."""
        family = getattr(self.result_, "family", None)
        if family is None or (family.name, family.link.name) != ("poisson", "log"):
            return None
        if X is None:
            raise ValueError(
                "the residual variance of a Poisson model on the log scale is that of the mean "
                "without fixed effects, for which the model is fitted again: give the data of the "
                "fit, as in r2(X, y)"
            )
        null = with_fixed(self, "1", smooths=False, prior=None).fit(X, y, groups=groups)
        return float(np.exp(null.intercept_))
