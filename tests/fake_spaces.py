"""A stand-in for the package `spaces`, whose `GPU` forks as the real one does on ZeroGPU.

Arguments and values cross a pipe as pickles, an error arrives without its words, and a closed
generator ends the call at its next value. Source: `spaces` 0.51.3, zero/wrappers.py.
"""

import multiprocessing
import os

import gradio as gr
from gradio.context import LocalContext

FORK = multiprocessing.get_context("fork")
END = "that was all"


class FakeSpaces:
    """Remembers what it was asked for. `refusal` is what the host says to the next call."""

    def __init__(self):
        self.durations, self.visitors, self.processes = [], [], []
        self.refusal = None

    def GPU(self, task=None, *, duration=None):  # noqa: N802 - the package's own name
        def lend(*args):
            self.durations.append(duration(*args))
            self.visitors.append(LocalContext.request.get(None))
            if self.refusal:
                raise gr.Error(self.refusal)
            yield from self._call(task, args)

        return (lambda given: self.GPU(given, duration=duration)) if task is None else lend

    def _call(self, task, args):
        values, theirs = FORK.Pipe(duplex=False)
        stop = FORK.Event()
        child = FORK.Process(target=iterate, args=(task, args, theirs, stop), daemon=True)
        child.start()
        theirs.close()
        self.processes.append(child)
        try:
            while (value := values.recv()) != END:
                if isinstance(value, gr.Error):
                    raise value
                yield value
        except GeneratorExit:
            stop.set()
            raise
        finally:
            child.join(60)


def iterate(task, args, values, stop):
    """The call, in the process that has the device."""
    import torch

    torch.set_num_threads(1)  # a forked process has lost OpenMP's threads
    call = task(*args)
    try:
        for value in call:
            if stop.is_set():
                call.close()
                break
            values.send(value)
        values.send(END)
    except BrokenPipeError:
        pass
    except Exception as error:  # noqa: BLE001 - as the package does
        values.send(gr.Error(type(error).__name__))
    finally:
        os._exit(0)
