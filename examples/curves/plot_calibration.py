"""
Calibrating many sensors
========================

A hundred cheap sensors of one make return a voltage for a concentration, nearly along a line, each
with an offset and a gain of its own. A full calibration of every sensor is expensive. How few
measurements per sensor do, if what is known of the other sensors is used?

A random intercept and slope for each sensor, ``(conc | sensor)``, and then the line turned round:
from a voltage to a concentration. The data are simulated: gains have a standard deviation of 8 %,
offsets of 0.15 V, a reading of 0.05 V.

Pages on this: :doc:`/prediction`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.plotting import RandomEffectsDisplay

rng = np.random.default_rng(5)
N = 100
OFFSET, GAIN = 0.5 + 0.15 * rng.normal(size=N), 0.20 * (1 + 0.08 * rng.normal(size=N))


def readings(sensors, conc):
    """A voltage for each pair of sensor and concentration."""
    volts = OFFSET[sensors] + GAIN[sensors] * conc + 0.05 * rng.normal(size=len(conc))
    return pd.DataFrame({"sensor": [f"s{k}" for k in sensors], "conc": conc, "volts": volts})


# %%
# The calibration: twenty sensors are measured at six concentrations, the other eighty at two.

well = readings(np.repeat(np.arange(20), 6), np.tile([0.0, 2, 4, 6, 8, 10], 20))
briefly = readings(np.repeat(np.arange(20, N), 2), np.tile([1.0, 3.0], N - 20))
calibration = pd.concat([well, briefly], ignore_index=True)
model = MixedLinearRegressor("volts ~ conc + (conc | sensor)").fit(calibration)
print(model.summary())

# %%
# Sensors as points, gain against offset: no correlation, as they were made. Those measured twice
# are drawn closer to the middle.

RandomEffectsDisplay.from_estimator(model)
plt.show()

# %%
# The line turned round
# ---------------------
#
# From the offset and gain of a sensor, and a voltage, to a concentration. Two ways to get offset
# and gain of the eighty sensors: from their two measurements alone (joined by a line), or from the
# mixed model.

new = readings(np.repeat(np.arange(20, N), 5), np.tile([2.0, 4, 6, 8, 10], N - 20))
own = briefly.pivot(index="sensor", columns="conc", values="volts")
gain = (own[3.0] - own[1.0]) / 2
two_points = pd.DataFrame({"offset": own[1.0] - gain, "gain": gain})
mixed = model.random_effects_["sensor"] + model.fixed_effects_
mixed.columns = ["offset", "gain"]


def concentration(data, lines):
    line = lines.loc[data["sensor"]]
    return (data["volts"].to_numpy() - line["offset"].to_numpy()) / line["gain"].to_numpy()


figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True, layout="constrained")
for ax, (name, lines) in zip(axes, {"two points each": two_points, "mixed model": mixed}.items(),
                             strict=True):  # fmt: skip
    found = concentration(new, lines)
    jitter = new["conc"] + rng.uniform(-0.3, 0.3, len(new))
    ax.plot(jitter, found - new["conc"], ".", alpha=0.5, markersize=4)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set(xlabel="true concentration", title=name)
    rms = np.sqrt(np.mean((found - new["conc"]) ** 2))
    print(f"{name}: root mean square error {rms:.2f}")
axes[0].set(ylabel="error of the concentration", ylim=(-7, 7))
plt.show()

# %%
# Two measurements at 1 and 3 say little about a gain, and beyond 3 their error grows with the
# concentration. The mixed model knows how gains of such sensors vary and does not believe an
# extreme one.
#
# With which error?
# -----------------
#
# The error of a concentration has two sources: the new reading, and what is not known of the
# sensor. The interval of a new voltage, ``kind="observation"``, has both; the concentrations whose
# interval contains the voltage are the interval of the concentration.

grid = np.linspace(-3, 16, 400)
inside = []
for name, rows in new.groupby("sensor"):
    line = pd.DataFrame({"conc": grid, "sensor": name})
    low, high = model.predict_interval(line, kind="observation").T
    for volts, truth in zip(rows["volts"], rows["conc"], strict=True):
        possible = grid[(low <= volts) & (volts <= high)]
        inside.append((possible.min() <= truth <= possible.max(), np.ptp(possible)))
covered, width = np.mean(inside, axis=0)
print(f"95 % intervals hold {100 * covered:.0f} % of the concentrations; mean width {width:.1f}")

# %%
# A sensor out of the box
# -----------------------
#
# Without any measurement of its own a sensor is an average one; the interval says what that is
# worth.

sensors = {"new": ("out of the box", "C1"), "s0": ("measured six times", "C0")}
rows = pd.concat(pd.DataFrame({"conc": grid, "sensor": sensor}) for sensor in sensors)
rows[["low", "high"]] = model.predict_interval(rows, kind="observation")
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for sensor, (label, color) in sensors.items():
    band = rows.loc[rows["sensor"] == sensor, ["low", "high"]].T.to_numpy()
    ax.fill_between(grid, *band, alpha=0.35, color=color, linewidth=0, label=label)
ax.set(xlabel="concentration", ylabel="volts", xlim=(0, 10), ylim=(0, 3.5))
ax.legend(loc="upper left")
plt.show()
