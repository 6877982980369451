"""Graphs: compiled networks with named inputs and outputs, such as ONNX and TFLite files hold, as models.

A file of this sort says of each input and output its name, shape and type (`otoscope.adapters.ports`), so much can be
checked before the first sound: that the card's ``[input]`` makes what the graph takes, that every further input is
given, that there is a label for each class. `GraphSettings` are the keys of ``[model.settings]``.

Batches: a graph that takes any number of items gets whole batches; one that takes, or answers for, a fixed number gets
blocks of that many, the last filled up with zeros; one whose input has no axis for items gets them one by one.

Streams: a recurrent network hears chunk after chunk, each behind the last samples (`context`) of the one before, and
hands its state on. Every waveform starts from silence and a state of zeros, its last chunk is filled up with zeros, and
the answers are (n, n_steps, n_classes), of which the card's `pool` makes one score.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from otoscope.adapters.errors import OtoscopeError
from otoscope.adapters.hearing import BAND_AXES, WAVEFORM_AXES, Hearing
from otoscope.adapters.ports import Array, Graph, Port, told

if TYPE_CHECKING:
    import torch

    from otoscope.adapters.card import Card
    from otoscope.adapters.loading import Loading
    from otoscope.adapters.network import NetworkModel

MOST_ITEMS = 4096  # that a network of fixed size may take at once
STEPS = "scores come in 256 steps (8-bit output); --clip 0.002 keeps log-odds within what they can tell"


@dataclass(frozen=True)
class GraphSettings:
    """What a card says of a graph in ``[model.settings]``.

    Attributes
    ----------
    input : str, optional
        Which input hears; needed only where several take floating numbers.
    constants : dict
        Further inputs: name -> number or list. A number fills the whole input.
    chunk : int, optional
        Samples of one step of a network that hears in steps.
    context : int
        Samples of the last step that are put before the next.
    state : dict
        Further inputs that come from the step before: name -> name of the output; zeros at the start.
    """

    input: str | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    chunk: int | None = None
    context: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what makes no step."""
        if self.chunk is None and (self.context or self.state):
            raise OtoscopeError("context and state are for networks that hear in steps; give chunk, in samples")
        if not 1 <= (1 if self.chunk is None else self.chunk) <= 2**28 or not 0 <= self.context <= 2**28:
            raise OtoscopeError(f"need chunk ≥ 1 and context ≥ 0, got {self.chunk} and {self.context}")
        if wrong := [name for name, output in self.state.items() if not isinstance(output, str)]:
            raise OtoscopeError(f"state {wrong[0]!r} must be the name of an output")


def _find(ports: Sequence[Port], name: str, what: str) -> Port:
    for port in ports:
        if port.name == name:
            return port
    raise OtoscopeError(f"the network has no {what} {name!r}; it has {told(ports)}")


class GraphNetwork:
    """A graph as a function from tensors to tensors, for `NetworkModel`.

    Parameters
    ----------
    graph : Graph
    hearing : Hearing
    settings : GraphSettings
    answer : str, optional
        The output that counts; the only one that is no state where None.
    """

    def __init__(self, graph: Graph, hearing: Hearing, settings: GraphSettings, *, answer: str | None = None) -> None:
        self.graph = graph
        self.settings = settings
        self.flat = hearing.one_by_one
        self.states = [
            (_find(graph.inputs, name, "input"), _find(graph.outputs, str(output), "output"))
            for name, output in settings.state.items()
        ]
        self.input = self._hears()
        self.answer = self._answers(answer)
        self.constants = [_find(graph.inputs, name, "input") for name in settings.constants]
        self._check_all_given()
        _check_fit(self.input, hearing, settings)
        self.block = self._block()
        if (self.block or 1) > MOST_ITEMS:
            raise OtoscopeError(f"the network takes {self.block:.2g} items at once; export it with an open first axis")
        for port in self.constants:  # says at once what cannot be
            port.full(settings.constants[port.name], 1)
        for port, _ in self.states:
            port.full(0, 1)

    def _hears(self) -> Port:
        """Choose the input that hears."""
        if self.settings.input is not None:
            return _find(self.graph.inputs, self.settings.input, "input")
        taken = {*self.settings.constants, *self.settings.state}
        free = [port for port in self.graph.inputs if port.name not in taken]
        chosen = free if len(free) == 1 else [p for p in free if p.dtype is not None and p.dtype.kind == "f"]
        if len(chosen) == 1:
            return chosen[0]
        raise OtoscopeError(
            f"say by input, in [model.settings], which input hears; the network takes {told(self.graph.inputs)}"
        )

    def _answers(self, name: str | None) -> Port:
        """Choose the output that counts."""
        if name is not None:
            chosen = [_find(self.graph.outputs, name, "output")]
        else:
            states = {port.name for _, port in self.states}
            chosen = [port for port in self.graph.outputs if port.name not in states]
        if len(chosen) == 1 and chosen[0].dtype is not None:
            return chosen[0]
        raise OtoscopeError(
            f"say by answer, in [model], which output holds the scores; the network gives {told(self.graph.outputs)}"
        )

    def _check_all_given(self) -> None:
        given = {self.input.name, *self.settings.constants, *self.settings.state}
        for port in self.graph.inputs:
            if port.name not in given:
                raise OtoscopeError(
                    f"the network also takes {port}; give it under [model.settings.constants], or as state of a stream"
                )

    def _block(self) -> int | None:
        """How many items go through at once; None for any number."""
        if self.flat:
            return None
        # A state does not tell which of its axes holds the items: where none is open, it is for one.
        closed = any(all(isinstance(size, int) for size in port.shape) for port, _ in self.states)
        sizes = [*self.input.shape[:1], *self.answer.shape[:1], 1 if closed else "any"]
        return next((size for size in sizes if isinstance(size, int)), None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Answer for the network's input, items first, or a single item where its input has no axis for them."""
        import torch

        heard = x.detach().cpu().numpy()
        answers = self._ask(heard, 1) if self.flat else self._ask_blocks(heard)
        return torch.from_numpy(answers).to(x.device)

    def _ask_blocks(self, x: Array) -> Array:
        n, size = len(x), self.block or len(x)
        missing = -n % size
        if missing:
            x = np.concatenate([x, np.zeros((missing, *x.shape[1:]), dtype=x.dtype)])
        answers = []
        for start in range(0, len(x), size):
            answer = self._ask(x[start : start + size], size)
            if answer.ndim == 0 or len(answer) != size:
                raise OtoscopeError(f"the network gave {self.answer} of shape {answer.shape} for {size} items")
            answers.append(answer)
        return np.concatenate(answers)[:n]

    def _ask(self, x: Array, n: int) -> Array:
        """Answer for exactly as many items as the graph takes."""
        if self.settings.chunk is not None:
            return self._stream(x, n, self.settings.chunk)
        return self._step(x, n, {})[0]

    def _stream(self, x: Array, n: int, chunk: int) -> Array:
        """Hear chunk after chunk: (n, n_samples) to (n, n_steps, n_classes)."""
        n_steps = -(-x.shape[-1] // chunk)
        behind = n_steps * chunk - x.shape[-1]
        around = [(0, 0)] * (x.ndim - 1) + [(self.settings.context, behind)]  # silence before and behind
        x = np.pad(x, around)
        state = {port.name: port.full(0, n) for port, _ in self.states}
        steps = []
        for start in range(0, n_steps * chunk, chunk):
            answer, *states = self._step(x[..., start : start + self.settings.context + chunk], n, state)
            state = dict(zip(state, states, strict=True))
            steps.append(answer if answer.ndim or not self.flat else answer[None])
        return np.stack(steps, axis=0 if self.flat else 1)

    def _step(self, x: Array, n: int, state: Mapping[str, Array]) -> list[Array]:
        """Run the graph once: the answer, then the states as they are."""
        feeds = {self.input.name: self.input.encode(x), **state}
        feeds |= {port.name: port.full(self.settings.constants[port.name], n) for port in self.constants}
        answer, *states = self.graph.run(feeds, [self.answer.name, *(port.name for _, port in self.states)])
        answer = self.answer.decode(answer)
        if self.flat and answer.ndim == 2 and len(answer) == 1:
            answer = answer[0]  # the answer has the axis for items that the input lacks
        elif answer.ndim == 1 and not self.flat and self.settings.chunk is not None:
            answer = answer[:, None]  # one class
        return [answer, *states]


def _axes(hearing: Hearing) -> tuple[str, ...]:
    return hearing.layout or (WAVEFORM_AXES if hearing.front_end is None else BAND_AXES)


def _sizes(hearing: Hearing, settings: GraphSettings) -> dict[str, int | None]:
    """How long each axis of the network's input is; None for any length."""
    sizes: dict[str, int | None] = {"items": None, "channels": 1, "samples": hearing.n_samples}
    if settings.chunk is not None:
        sizes["samples"] = settings.chunk + settings.context
    if (front_end := hearing.front_end) is not None:
        sizes["bands"] = len(front_end.centres)
        sizes["frames"] = front_end.n_frames
        if front_end.n_frames is None and hearing.n_samples is not None:
            sizes["frames"] = front_end.stft.n_frames(hearing.n_samples)
    return sizes


def _check_fit(port: Port, hearing: Hearing, settings: GraphSettings) -> None:
    """Refuse a card whose ``[input]`` makes something else than the network takes."""
    axes, sizes = _axes(hearing), _sizes(hearing, settings)
    if settings.chunk is not None and axes[-1] != "samples":
        raise OtoscopeError("chunk is for networks that hear waveforms; leave out the front end, put samples last")
    if "items" in axes and axes[0] != "items":
        raise OtoscopeError(f"layout must begin with items, got {', '.join(axes)}")
    if not port.shape:
        return  # it declares no shape
    fits = len(axes) == len(port.shape) and all(
        axis == "items" or not isinstance(size, int) or size == sizes[axis]
        for axis, size in zip(axes, port.shape, strict=True)
    )
    if not fits:
        made = ", ".join(axis if sizes[axis] is None else f"{sizes[axis]} {axis}" for axis in axes)
        raise OtoscopeError(
            f"the network takes {port}, but [input] makes ({made}); correct layout, n_samples or the front end"
        )


def graph_model(card: Card, loading: Loading, graph: Graph, *, digest: str) -> NetworkModel:
    """Put a graph behind the predict interface, as its card says.

    Parameters
    ----------
    card : Card
    loading : Loading
    graph : Graph
    digest : str
        Identity of the file.

    Raises
    ------
    OtoscopeError
        If card and graph do not fit each other.
    """
    from otoscope.adapters.network import from_network

    settings = card.settings(GraphSettings)
    network = GraphNetwork(graph, card.hearing, settings, answer=card.model.answer)
    n_classes = network.answer.shape[-1] if len(network.answer.shape) > 1 else len(card.labels)
    if isinstance(n_classes, int) and n_classes != len(card.labels):
        raise OtoscopeError(f"the network gives {network.answer}, but the card names {len(card.labels)} labels")
    digest += json.dumps(asdict(settings), sort_keys=True)
    return from_network(card, loading, network, returns="scores", digest=digest, notes=tuple(_notes(card, network)))


def _notes(card: Card, network: GraphNetwork) -> Iterator[str]:
    """Say what a reader of its explanations must know."""
    settings, answer = network.settings, network.answer
    if settings.chunk is not None:
        milliseconds = 1000 * settings.chunk / card.hearing.rate
        yield f"hears steps of {milliseconds:g} ms in order; a score is the {card.model.pool or 'answer'} over them"
    if answer.scale and answer.dtype is not None and answer.dtype.itemsize == 1 and card.model.output != "regression":
        yield STEPS
