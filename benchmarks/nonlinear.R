# Rscript nonlinear.R package data formula fixed random start repeats factor,factor,...
# Fits in R, the first of several fits uncounted, and prints one line per fit:
# seconds evaluations -2*logLik, with NA where there is none.
# formula: of nlmer, or the curve of nlme, whose fixed and random are lists of formulas.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(suppressWarnings(library(args[1], character.only = TRUE)))
data <- read.csv(args[2])
for (column in strsplit(args[8], ",")[[1]]) data[[column]] <- factor(data[[column]])
formula <- as.formula(args[3])
start <- eval(parse(text = args[6]))
repeats <- as.integer(args[7])
fit_once <- function() {
  # nlmer looks at the formula as it is written in the call
  if (args[1] == "lme4") return(do.call(nlmer, list(formula, quote(data), start = start)))
  fixed <- eval(parse(text = args[4]))
  random <- eval(parse(text = args[5]))
  nlme(formula, data, fixed = fixed, random = random, start = start)
}
quietly <- function() suppressMessages(suppressWarnings(tryCatch(fit_once(), error = function(e) NULL)))
if (repeats > 1) warm_up <- quietly()
for (i in seq_len(repeats)) {
  time <- sum(proc.time()[1:2])
  fit <- quietly()
  seconds <- sum(proc.time()[1:2]) - time
  value <- if (is.null(fit)) NA else -2 * as.numeric(logLik(fit))
  count <- if (is.null(fit) || args[1] != "lme4") NA else fit@optinfo$feval
  cat(sprintf("%.6f %d %.10f\n", seconds, as.integer(count), value))
}
