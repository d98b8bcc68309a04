# Rscript glmm.R package data.csv formula family repeats factor,factor,...
# Fits in R and prints one line per fit: seconds evaluations -2*logLik.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(suppressWarnings(library(args[1], character.only = TRUE)))
data <- read.csv(args[2])
for (column in strsplit(args[6], ",")[[1]]) data[[column]] <- factor(data[[column]])
formula <- as.formula(args[3])
fit_once <- function() {
  if (args[1] == "lme4") glmer(formula, data, family = args[4])
  else glmmTMB(formula, data, family = args[4])
}
for (i in seq_len(as.integer(args[5]))) {
  start <- Sys.time()
  fit <- suppressMessages(suppressWarnings(fit_once()))
  seconds <- as.numeric(difftime(Sys.time(), start, units = "secs"))
  count <- if (args[1] == "lme4") fit@optinfo$feval else fit$fit$evaluations[["function"]]
  cat(sprintf("%.6f %d %.10f\n", seconds, count, -2 * as.numeric(logLik(fit))))
}
