"""What is measured: cases, who takes part in them, and what they are to reach."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

Samples = Mapping[str, Sequence[Mapping[str, float]]]
"""By subject, the figures of each round."""


@frozen
class Subject:
    """Somebody who takes part in a case: a script that prints figures.

    Attributes:
        label: What the table calls it; unique in a case.
        peer: In whose environment it runs (`peers`).
        script: A file in ``workers/``, and its arguments.
        once: Too slow for every round: measured in the first one only.
        needs: What has to be running beside it (`services`).
    """

    label: str
    peer: str
    script: Sequence[str]
    once: bool = False
    needs: Sequence[str] = ()


@frozen
class Goal:
    """What a figure has to reach, by itself or as a ratio to that of another subject in the same sitting.

    Attributes:
        text: In words, as the table says it.
        subject: Whose figure.
        figure: Its name.
        against: Whose figure it is divided by; None: nobody's.
        per: The name of that figure, if it is another one.
        at_least: The lower bound.
        at_most: The upper bound.
    """

    text: str
    subject: str
    figure: str
    against: str | None = None
    per: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, samples: Samples) -> float | None:
        """Return what the medians give; None: something of it was not measured."""
        own = median(samples, self.subject, self.figure)
        if own is None or self.against is None:
            return own
        other = median(samples, self.against, self.per or self.figure)
        return None if other is None else own / other

    def is_met(self, reached: float) -> bool:
        """Whether *reached* will do."""
        return (self.at_least is None or reached >= self.at_least) and (self.at_most is None or reached <= self.at_most)


@frozen
class Case:
    """One thing that is measured.

    Attributes:
        name: Its name.
        title: What is done.
        figures: Names of figures to what the table calls them.
        plot: The figure that the plot shows.
    """

    name: str
    title: str
    figures: Mapping[str, str]
    subjects: Sequence[Subject]
    goals: Sequence[Goal] = ()
    plot: str | None = None
    notes: Sequence[str] = ()


def median(samples: Samples, subject: str, figure: str) -> float | None:
    """Return the median of a figure over the rounds; None: it was not measured."""
    values = [round_[figure] for round_ in samples.get(subject, ()) if figure in round_]
    return statistics.median(values) if values else None
