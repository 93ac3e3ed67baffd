"""Time to the same validation loss: networks trained without their last layer, and a tuned Adam on all weights.

    python scripts/bench/network.py [--steps 400] [--tasks elevation topo]

The network, the tasks and the loops are those of `examples/15_a_network_with_a_linear_layer.py`. Both sides choose their
rate; Adam on all weights also chooses how many steps its schedule has, and whether its last layer begins at the best
one or at random numbers, and the curve that is first at the loss counts.
What is compiled, and the judging of the losses, is not timed. Runs are interleaved, so that all see the same machine.
"""

import argparse
import pathlib
import runpy

import jax
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
TASKS = ["elevation", "topo"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    asked = parser.parse_args()
    at = runpy.run_path(str(ROOT / "examples" / "15_a_network_with_a_linear_layer.py"))
    train, best_of, steps = at["train"], at["best"], asked.steps
    for key in asked.tasks:
        data = at["task"](at["files"][key], key)
        start, some = at["network"](jax.random.key(0)), (data[0][:4096], data[1][:4096])
        c = best_of(start, *some)[1]

        def complete(alpha, some=some):
            return alpha, best_of(alpha, *some)[1]

        ours = {
            rate: train(at["reduced"], start, complete, rate, steps, *data)
            for rate in (3e-3, 1e-2, 3e-2)
        }
        random = jax.random.normal(jax.random.key(3), c.shape, c.dtype) / len(c) ** 0.5
        theirs = {
            (rate, times, name): train(
                at["whole"], (start, first), lambda w: w, rate, times * steps, *data
            )
            for times in (1, 4, 10)
            for rate in (3e-3, 1e-2, 3e-2)
            for name, first in (("the best", c), ("a random", random))
        }
        best = min(ours, key=lambda rate: ours[rate][-1, 1])
        other = min(theirs, key=lambda how: theirs[how][-1, 1])
        print(
            f"{key}: without c, rate {best}: {ours[best][-1, 1]:.4f} in {ours[best][-1, 0]:.2f} s"
        )
        print(
            f"  all weights, rate {other[0]}, {other[1]} x steps, from {other[2]} last layer: {theirs[other][-1, 1]:.4f} in {theirs[other][-1, 0]:.2f} s"
        )
        for goal in np.array([1.0, 1.1, 1.5]) * max(ours[best][-1, 1], theirs[other][-1, 1]):
            mine, all_weights = (
                min(
                    (
                        run[run[:, 1] <= goal][0, 0]
                        for run in runs.values()
                        if run[:, 1].min() <= goal
                    ),
                    default=np.inf,
                )
                for runs in (ours, theirs)
            )
            print(
                f"  to {goal:.4f}: {mine:.2f} s without c, {all_weights:.2f} s of all weights, {all_weights / mine:.1f}"
            )


if __name__ == "__main__":
    main()
