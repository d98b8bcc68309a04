# Rscript fit.R package data.csv formula family repeats factor,factor,...
# Fits in R, the first of several fits uncounted, and prints one line per fit:
# seconds evaluations -2*logLik.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(suppressWarnings(library(args[1], character.only = TRUE)))
data <- read.csv(args[2])
for (column in strsplit(args[6], ",")[[1]]) data[[column]] <- factor(data[[column]])
formula <- as.formula(args[3])
family <- args[4]
repeats <- as.integer(args[5])
fit_once <- function() {
  if (args[1] == "glmmTMB") glmmTMB(formula, data, family = family)
  else if (family == "gaussian") lmer(formula, data)
  else glmer(formula, data, family = family)
}
if (repeats > 1) warm_up <- suppressMessages(suppressWarnings(fit_once()))
for (i in seq_len(repeats)) {
  start <- Sys.time()
  fit <- suppressMessages(suppressWarnings(fit_once()))
  seconds <- as.numeric(difftime(Sys.time(), start, units = "secs"))
  count <- if (args[1] == "lme4") fit@optinfo$feval else fit$fit$evaluations[["function"]]
  cat(sprintf("%.6f %d %.10f\n", seconds, count, -2 * as.numeric(logLik(fit))))
}
