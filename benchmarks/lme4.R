# Rscript lme4.R data.csv formula repeats factor,factor,...
# Fits in R and prints one line per fit: seconds evaluations -2*logLik.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(library(lme4))
data <- read.csv(args[1])
for (column in strsplit(args[4], ",")[[1]]) data[[column]] <- factor(data[[column]])
formula <- as.formula(args[2])
for (i in seq_len(as.integer(args[3]))) {
  start <- Sys.time()
  fit <- suppressMessages(suppressWarnings(lmer(formula, data)))
  seconds <- as.numeric(difftime(Sys.time(), start, units = "secs"))
  cat(sprintf("%.6f %d %.10f\n", seconds, fit@optinfo$feval, -2 * as.numeric(logLik(fit))))
}
