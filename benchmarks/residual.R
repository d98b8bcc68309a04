# Rscript residual.R data.csv call repeats factor,factor,...
# Evaluates a call of nlme with the data some times, the first of several fits uncounted, and prints
# one line per fit: seconds, -2 log restricted likelihood.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(library(nlme))
data <- read.csv(args[1])
for (column in strsplit(args[4], ",")[[1]]) data[[column]] <- factor(data[[column]])
call <- parse(text = args[2])
repeats <- as.integer(args[3])
if (repeats > 1) warm_up <- eval(call)
for (i in seq_len(repeats)) {
  start <- Sys.time()
  fit <- eval(call)
  seconds <- as.numeric(difftime(Sys.time(), start, units = "secs"))
  cat(sprintf("%.6f %.10f\n", seconds, -2 * as.numeric(logLik(fit))))
}
