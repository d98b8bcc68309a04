# Reference fits for tests/estimators/test_prior.py: Rscript reference.R > reference.json
# R 4.2.2, lme4 1.1-31, blme 1.0-5, arm 1.13-1.
suppressMessages({library(lme4); library(blme); library(arm)})
options(digits = 17)

tight <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-13, calc.derivs = FALSE,
                      optCtrl = list(rhobeg = 2e-3, rhoend = 1e-9, maxfun = 1e5))
numbers <- function(x) paste0("[", paste(format(unname(x), digits = 15), collapse = ", "), "]")
show <- function(name, ...) {
  parts <- list(...)
  body <- paste0('"', names(parts), '": ', sapply(parts, numbers), collapse = ", ")
  cat('"', name, '": {', body, "}", sep = "")
}
# A fit, begun again where it ended until it stays there
settled <- function(model, ...) {
  for (i in 1:4) model <- update(model, start = list(theta = getME(model, "theta"),
                                                     fixef = fixef(model)), ...)
  model
}
mixed <- function(name, model) {
  model <- settled(model)
  show(name, coef = fixef(model), theta = getME(model, "theta"), deviance = -2 * logLik(model))
}
fixed <- function(name, model) show(name, coef = coef(model), std_error = se.coef(model))

# a trial in which nobody of the second arm fails: clinics of 6 patients, no random numbers
i <- 0:59
trial <- data.frame(
  clinic = factor(i %/% 6), arm = i %% 2, dose = ((i * 7) %% 11 - 5) / 2,
  y = as.numeric(((i * 13) %% 17 + 3 * (i %/% 6 %% 3)) > 9)
)
trial$y[trial$arm == 1] <- 1
centred <- transform(trial, arm = arm - mean(arm), dose = dose - mean(dose))

cat("{")
mixed("cbpp_normal", bglmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp,
  family = binomial, cov.prior = NULL, fixef.prior = normal(sd = c(10, 2.5)), control = tight))
cat(",\n")
mixed("cbpp_narrow", bglmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp,
  family = binomial, cov.prior = NULL, fixef.prior = normal(sd = c(3, 0.5)), control = tight))
cat(",\n")
# blme's t is one density of all coefficients, which for one coefficient is ours
mixed("cbpp_t", bglmer(cbind(incidence, size - incidence) ~ 1 + (1 | herd), cbpp,
  family = binomial, cov.prior = NULL, fixef.prior = t(df = 3, scale = 0.5^2), control = tight))
cat(",\n")
mixed("separated_normal", bglmer(y ~ arm + dose + (1 | clinic), trial,
  family = binomial, cov.prior = NULL, fixef.prior = normal(sd = c(10, 2.5)), control = tight))
cat(",\n")
strict <- list(family = binomial, prior.df = Inf, prior.df.for.intercept = Inf, maxit = 500,
               control = list(epsilon = 1e-14, maxit = 500, trace = FALSE))
fixed("bayesglm_plain", do.call(bayesglm, c(list(y ~ arm + dose, data = trial, scaled = FALSE), strict)))
cat(",\n")
# bayesglm divides by n - 1 in standard deviations
fixed("bayesglm_scaled", do.call(bayesglm, c(list(y ~ arm + dose, data = centred,
                                                  prior.scale = c(2.5, 2.5 * sqrt(60 / 59))), strict)))
cat("}\n")
