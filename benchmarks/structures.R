# Models with covariance structures, timed by the processor: kind, table, repeats, folder of K.
args <- commandArgs(TRUE)
d <- read.csv(args[2]); repeats <- as.integer(args[3])
suppressMessages({
  if (args[1] %in% c("ar1", "cs")) library(glmmTMB)
  if (args[1] == "gau") library(nlme)
  if (args[1] == "K") { library(lme4); library(Matrix) }
})
if (args[1] %in% c("ar1", "cs")) { d$t <- factor(d$t); d$g <- factor(d$g) }

related <- function() {
  con <- file(args[4], "rb"); q <- readBin(con, "integer", 1)
  K <- matrix(readBin(con, "double", q * q), q); close(con)
  d$g <- factor(d$g, levels = 0:(q - 1))
  parts <- lFormula(y ~ x + (1 | g), d, control = lmerControl(
    check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore"))
  Zt <- parts$reTrms$Zt
  rows <- as.integer(rownames(Zt)) + 1
  L <- chol(K[rows, rows])
  parts$reTrms$Zt <- Matrix(as.matrix(L %*% Zt), sparse = TRUE)
  f <- do.call(mkLmerDevfun, parts)
  optimum <- optimizeLmer(f)
  c(optimum$fval, optimum$feval)
}
fit <- switch(args[1],
  ar1 = function() { m <- glmmTMB(y ~ x + ar1(0 + t | g), d, REML = TRUE)
    c(-2 * as.numeric(logLik(m)), m$fit$evaluations[[1]]) },
  cs = function() { m <- glmmTMB(y ~ x + cs(0 + t | g), d, REML = TRUE)
    c(-2 * as.numeric(logLik(m)), m$fit$evaluations[[1]]) },
  gau = function() { m <- gls(y ~ x, d,
      correlation = corGaus(c(2, 0.2), form = ~ u + v, nugget = TRUE))
    c(-2 * as.numeric(logLik(m)), NA) },
  K = related)
for (i in seq_len(repeats + (repeats > 1))) {
  start <- proc.time()
  found <- suppressWarnings(fit())
  spent <- sum((proc.time() - start)[1:2])
  if (i > 1 || repeats == 1) cat(sprintf("%.6f %s %.10f\n", spent, found[2], found[1]))
}
