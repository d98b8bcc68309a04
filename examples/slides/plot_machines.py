"""
Machines: when a fixed and a random factor interact
===================================================

Six workers, drawn from all of a factory, tried three brands of machine, three times each. Which
machine should be bought? The machines are fixed: there are three. The workers are random: what
matters are those who will come.

Workers may differ in how well they do on *each* machine. That interaction is a random effect too,
and it decides about the precision of the comparison.

Pages on this: :doc:`/emmeans`, :doc:`/comparing`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_machines
from skmixed.inference import emmeans, likelihood_ratio_test
from skmixed.plotting import MarginalMeansDisplay

machines = load_machines().frame

# %%
# One line for each worker. Parallel lines would mean that workers differ by a constant; they cross,
# and worker 6 does badly on machine B in particular. The three points of a cell are close together.

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for k, (worker, rows) in enumerate(machines.groupby("Worker", observed=True)):
    mean = rows.groupby("Machine", observed=True)["score"].mean()
    ax.plot(rows["Machine"], rows["score"], ".", color=f"C{k}", alpha=0.6)
    ax.plot(mean.index, mean, "-", color=f"C{k}", label=worker)
ax.set(xlabel="machine", ylabel="productivity score", title="Lines of workers cross")
ax.legend(title="worker", ncols=2, fontsize="small")
plt.show()

# %%
# Three models of the workers
# ---------------------------
#
# First an effect per worker; then another one for each worker on each machine, all with one
# variance; last three effects per worker, one per machine, with any covariance.

additive = MixedLinearRegressor("score ~ Machine + (1 | Worker)").fit(machines)
scalar = MixedLinearRegressor("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)").fit(machines)
vector = MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(machines)
test = likelihood_ratio_test(additive, scalar, vector)
print(test[["npar", "AIC", "Chisq", "Df", "p-value"]].round(4).to_string(index=False))

# %%
# The interaction is needed. Whether its variances differ by machine (the third model) is less
# clear, with six workers. Its covariance shows what the picture did: workers vary most on B.

print(vector.covariances_["Worker"].round(1))

# %%
# Which machine?
# --------------
#
# Means of machines for workers like these, with intervals. Means that share a letter do not differ
# significantly.

MarginalMeansDisplay.from_estimator(scalar, "Machine", ddf="kenward_roger")
plt.show()
print(emmeans(scalar, "Machine", ddf="kenward_roger").pairs())

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Without the interaction the 54 scores look like 54 answers to the question; but another worker may
# take to the machines otherwise, and there were six workers. Standard error and degrees of freedom
# of the difference between C and B:

rows = {}
for name, fit in (("without interaction", additive), ("with", scalar)):
    frame = emmeans(fit, "Machine", ddf="kenward_roger").pairs().frame
    rows[name] = frame.loc["B - C", ["estimate", "std_error", "df", "p_value"]]
print(pd.DataFrame(rows).T.astype(float).round(4))
