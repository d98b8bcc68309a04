# Rscript bootstrap.R: bootMer and PBmodcomp of lme4 and pbkrtest, written to bootstrap.json.
suppressMessages({library(lme4); library(pbkrtest); library(jsonlite)})
set.seed(2026)
quiet <- function(x) suppressMessages(suppressWarnings(x))
estimates <- function(fit) {
  v <- as.data.frame(VarCorr(fit), order = "lower.tri")
  c(fixef(fit), setNames(v$sdcor, ifelse(is.na(v$var1), "sigma", ifelse(is.na(v$var2),
    paste0("sd_", v$var1, "|", v$grp), paste0("cor_", v$var2, ".", v$var1, "|", v$grp)))))
}
moments <- function(fit, n, ...) {
  b <- quiet(bootMer(fit, estimates, nsim = n, ...))
  list(n = n, mean = as.list(colMeans(b$t, na.rm = TRUE)), sd = as.list(apply(b$t, 2, sd, na.rm = TRUE)),
       singular = mean(apply(b$t, 1, function(x) any(abs(x[grep("^sd_", names(b$t0))]) < 1e-4))))
}
sleep <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
penicillin <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin)
herds <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial)
cake_large <- lmer(angle ~ recipe + temp + (1 | recipe:replicate), cake, REML = FALSE)
cake_small <- update(cake_large, . ~ . - recipe)
few <- droplevels(subset(sleepstudy, Subject %in% levels(Subject)[1:5] & Days < 4))
few_large <- lmer(Reaction ~ Days + (1 | Subject), few, REML = FALSE)
few_small <- lmer(Reaction ~ 1 + (1 | Subject), few, REML = FALSE)
test <- function(large, small, n) {
  p <- quiet(PBmodcomp(large, small, nsim = n))
  list(n = n, samples = length(p$ref), statistic = unname(p$LRTstat[1]), p = p$test$p.value, rows = rownames(p$test),
       mean = mean(p$ref), positive = sum(p$ref > 0))
}
out <- list(
  versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")),
                  pbkrtest = as.character(packageVersion("pbkrtest"))),
  sleepstudy = moments(sleep, 1000),
  sleepstudy_conditional = moments(sleep, 500, use.u = TRUE),
  penicillin = moments(penicillin, 800),
  cbpp = moments(herds, 300),
  cake_recipe = test(cake_large, cake_small, 1000),
  sleepstudy_few_days = test(few_large, few_small, 1000)
)
write_json(out, "bootstrap.json", auto_unbox = TRUE, digits = 8, pretty = TRUE)
