# Rscript infer.R data.csv formula question repeats factor,factor,...
# Fits by lme4, answers the question some times, the first of several quick ones uncounted, and
# prints one line per answer: seconds of the processor, the same in fits, peak memory in MB.
args <- commandArgs(trailingOnly = TRUE)
suppressMessages(library(lme4))
suppressMessages(library(lmerTest))
data <- read.csv(args[1])
for (column in strsplit(args[5], ",")[[1]]) data[[column]] <- factor(data[[column]])
formula <- as.formula(args[2])
repeats <- as.integer(args[4])
estimates <- function(fit) c(fixef(fit), as.data.frame(VarCorr(fit))$sdcor)
fit_once <- function() lme4::lmer(formula, data)
questions <- list(
  "fit" = function(fit) fit_once(),
  # lmerTest takes derivatives when it makes a model its own
  "Satterthwaite" = function(fit) coef(summary(as_lmerModLmerTest(fit))),
  "type III" = function(fit) anova(as_lmerModLmerTest(fit), type = 3),
  "Kenward-Roger" = function(fit) coef(summary(own, ddf = "Kenward-Roger")),
  "profiles" = function(fit) confint(fit, method = "profile", quiet = TRUE),
  "200 refits" = function(fit) bootMer(fit, estimates, nsim = 200)
)
answer <- questions[[args[3]]]
seconds_of <- function(action) {
  start <- sum(proc.time()[1:2])
  suppressMessages(suppressWarnings(action()))
  sum(proc.time()[1:2]) - start
}
peak_memory <- function() {
  if (!file.exists("/proc/self/status")) return(NA)
  as.numeric(gsub("[^0-9]", "", grep("VmHWM", readLines("/proc/self/status"), value = TRUE))) / 1e3
}
quiet <- function(value) suppressMessages(suppressWarnings(value))
whole <- seconds_of(function() fit <<- fit_once())
few <- whole < 1 && repeats > 1 # what takes long needs no warming up
if (few) whole <- median(replicate(repeats, seconds_of(fit_once)))
if (args[3] == "Kenward-Roger") own <- quiet(as_lmerModLmerTest(fit))
if (few) warm_up <- quiet(answer(fit))
for (i in seq_len(repeats)) {
  seconds <- seconds_of(function() answer(fit))
  if (args[3] == "fit") whole <- seconds
  cat(sprintf("%.4f %.3f %.1f\n", seconds, seconds / whole, peak_memory()))
}
