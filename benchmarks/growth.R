# Rscript growth.R folder n_rows n_warm: fits lme4 to the columns of a folder, after those of its
# folder "warm"; prints "start" before the clock does, then "took", wall seconds, processor seconds
# and theta.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(library(lme4))
columns <- function(folder, n) {
  column <- function(name, what, size) readBin(file.path(folder, name), what, n, size)
  data.frame(
    y = column("y", "double", 8), x = column("x", "double", 8),
    user = factor(column("user", "integer", 4)), item = factor(column("item", "integer", 4))
  )
}
fit_to <- function(data) suppressWarnings(lmer(y ~ x + (1 | user) + (1 | item), data))
warm_up <- fit_to(columns(file.path(args[1], "warm"), as.numeric(args[3])))
data <- columns(args[1], as.numeric(args[2]))
cat("start\n")
flush(stdout())
took <- system.time(fit <- fit_to(data))
cat(sprintf("took %.6f %.6f %s\n", took[["elapsed"]], took[["user.self"]] + took[["sys.self"]],
            paste(signif(getME(fit, "theta"), 6), collapse = " ")))
