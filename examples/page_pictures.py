"""The pictures of the documentation that examples of the gallery draw.

    python examples/page_pictures.py [folder]

writes PNG files to the folder, by default the current one.
"""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from displays import save

# The example, and which of its figures it is.
PICTURES = {
    "orange": ("curves/plot_orange.py", 1),
    "theoph": ("curves/plot_theophylline.py", 1),
    "theoph_residuals": ("curves/plot_theophylline.py", 2),
    "uptake": ("curves/plot_smooths.py", 1),
    "growth": ("curves/plot_smooths.py", 2),
    "new_subject": ("analyses/plot_posterior.py", 3),
}


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    plt.show = lambda: None
    for script in dict.fromkeys(script for script, _ in PICTURES.values()):
        runpy.run_path(str(Path(__file__).parent / script))
        for name, (source, number) in PICTURES.items():
            if source == script:
                path = folder / f"{name}.png"
                save(plt.figure(number), path)
                print(path)
        plt.close("all")


if __name__ == "__main__":
    main()
