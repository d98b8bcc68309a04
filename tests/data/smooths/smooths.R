# References of smooth terms from mgcv: Rscript smooths.R > smooths.json
suppressMessages({library(mgcv); library(jsonlite)})
tight <- function(...) gam(..., control = gam.control(epsilon = 1e-12, maxit = 500,
  newton = list(conv.tol = 1e-11, maxNstep = 5, maxSstep = 2, maxHalf = 30, use.svd = FALSE)))
describe <- function(m, at) {
  f <- predict(m, at, type = "terms", se.fit = TRUE)
  list(edf = unname(summary(m)$edf), sp = unname(m$sp), sigma = sqrt(m$sig2), beta = unname(coef(m)[1]),
       fitted = unname(as.vector(predict(m, type = "link")))[1:10],
       terms = unname(as.data.frame(f$fit)), se = unname(as.data.frame(f$se.fit)),
       columns = colnames(f$fit))
}
mc <- MASS::mcycle
mc$g <- factor(rep(c("a", "b", "c"), length.out = nrow(mc)))
mc$z <- (seq_len(nrow(mc)) %% 7 - 3) / 3
mc$y <- mc$accel + 40 * mc$z * sin(mc$times / 8)
at <- data.frame(times = c(1, 10, 20, 40, 60), g = factor(c("a", "b", "c", "b", "a")), z = 1)
out <- list()
out$plain <- describe(tight(accel ~ s(times, bs = "ps", k = 20, m = c(2, 2)), data = mc,
  method = "REML"), at)
# By maximum likelihood the division into fixed and random columns matters: Z = B D'(DD')^-1 without
# the straight lines in its columns.
penalised <- function(x, k) {
  B <- smoothCon(s(x, bs = "ps", k = k, m = c(2, 2)), data.frame(x = x), absorb.cons = FALSE)[[1]]$X
  D <- diff(diag(k), differences = 2)
  D <- D / sqrt(norm(crossprod(D), "O"))
  Z <- B %*% t(D) %*% solve(tcrossprod(D))
  Z - cbind(1, x) %*% qr.solve(cbind(1, x), Z)
}
by_ml <- function(m) {
  own <- grep("^Z", names(coef(m)))
  list(edf = 1 + sum(m$edf[own]), sp = unname(m$sp[1]), sigma = sqrt(m$sig2),
       beta = unname(coef(m)[1:2]), fitted = unname(as.vector(m$linear.predictors))[1:10])
}
Z <- penalised(mc$times, 12)
out$by_ml <- by_ml(tight(accel ~ times + Z, data = mc, paraPen = list(Z = list(diag(10))),
  method = "ML"))
number <- seq_len(nrow(mc)) %% 19
mc$h <- factor(number)
mc$count <- round((mc$accel + 140) / 15) + 3 * (number %% 5)
out$poisson <- by_ml(gam(count ~ times + Z + s(h, bs = "re"), data = mc, family = poisson,
  paraPen = list(Z = list(diag(10))), method = "ML"))
mc$up <- as.numeric(mc$accel > 0)
Z <- penalised(mc$times, 8)
out$logistic <- by_ml(gam(up ~ times + Z, data = mc, family = binomial,
  paraPen = list(Z = list(diag(6))), method = "ML"))
out$by_factor <- describe(tight(accel ~ g + s(times, by = g, bs = "ps", k = 10, m = c(2, 2), id = 1),
  data = mc, method = "REML"), at)
out$by_number <- describe(tight(y ~ s(times, bs = "ps", k = 12, m = c(2, 2)) +
  s(times, by = z, bs = "ps", k = 8, m = c(2, 2)), data = mc, method = "REML"), at)
co <- as.data.frame(CO2)
co$Plant <- factor(co$Plant, ordered = FALSE)
co_at <- data.frame(conc = c(50, 150, 300, 600, 1100), Plant = co$Plant[1])
out$with_intercept <- describe(tight(uptake ~ s(conc, bs = "ps", k = 7, m = c(2, 2)) +
  s(Plant, bs = "re"), data = co, method = "REML"), co_at)
out$software <- paste("mgcv", packageVersion("mgcv"), R.version.string)
cat(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = FALSE), "\n")
