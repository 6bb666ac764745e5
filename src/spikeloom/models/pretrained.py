"""Networks in folders of the Hugging Face hub's convention: saved, and loaded from there or from the hub.

    sl.models.save_pretrained(net, "digits-net")            # config.json, model.safetensors, README.md
    net = sl.models.from_pretrained("digits-net")           # the same network, in evaluation mode
    net = sl.models.from_pretrained("someone/digits-net", revision="v1")    # pip install 'spikeloom[hub]'

A saved folder goes to the hub with its own command, `hf upload someone/digits-net digits-net`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..names import UnknownName
from .card import ModelCard
from .rebuild import build, encoded, must_come_back
from .registry import list_models, origin
from .weights import PretrainedError, digest, fill, pack, read, refuse_pickle, write

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT = 1
KEY = "spikeloom"  # the entry of config.json that is ours; the others are the model's arguments


def save_pretrained(net: nn.Module, folder: Path | str, card: ModelCard | str | None = None) -> None:
    """Write a network that `create_model` built: `config.json`, `model.safetensors`, `README.md`.

    The arguments of the model lie at the top of `config.json`, where the hub's own mixin looks for them.
    Before anything is written a second network is built from them and compared, so that what cannot come
    back, as a network that `sl.fold` has changed or an attribute set later, is refused. Each file is written
    beside its place, and renamed when all are; of a folder that exists, the three files alone are replaced,
    and only if this function saved them.

    Arguments:
        net: the network; buffers, learnable neuron parameters and dtypes are saved with it.
        folder: made if it does not exist.
        card: what `README.md` says; None keeps the one that is there, or writes what is known of the network.

    Raises:
        PretrainedError: the network cannot be built again from its name and arguments, or the folder holds
            other things under these names.
    """
    net = net._modules.get("_orig_mod") or net  # torch.compile wraps it
    made = origin(net)
    if made is None:
        raise PretrainedError(
            f"{type(net).__name__} was not built by sl.create_model, so its name and arguments are not "
            "known; build it so, or, for a class of your own, class Net(nn.Module, sl.models.HubMixin) and "
            "net.save_pretrained(folder)"
        )
    arguments = encoded(made.arguments, f"save_pretrained: {made.model}")
    if KEY in arguments:
        raise PretrainedError(f"model {made.model}: no argument may be called {KEY!r}; rename it")
    content = pack(net)
    header = {
        "model": made.model,
        "version": _version(),
        "format": FORMAT,
        "weights": digest(content),
        "memory_format": _memory_format(net),
    }
    must_come_back(net, made.model, arguments)
    write_folder(
        Path(folder), {KEY: header, **arguments}, content, card, card or ModelCard.of(net, made.model)
    )


def from_pretrained(
    source: Path | str,
    revision: str | None = None,
    *,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    **overrides: Any,
) -> nn.Module:
    """Return the network of a folder that `save_pretrained` wrote, or of such a repository on the hub.

    It is on the CPU and in evaluation mode, as the hub's convention has it; `net.train()` trains it further.
    Nothing is unpickled, and no code of the folder is run.

    Arguments:
        source: a folder, or the repository's id, as "someone/digits-net".
        revision: of a repository: a branch, tag or commit.
        cache_dir: where downloads are kept, if not in the hub's own place.
        local_files_only: take what is kept there, without asking the hub.
        overrides: arguments of the model in place of the saved ones, as `T=8`.

    Raises:
        PretrainedError: no such folder or repository; files that are missing, damaged or do not fit together.
        UnknownName: no such model, or no such argument; the message gives the nearest.
        ImportError: a repository is asked for, and `huggingface_hub` is not installed.
    """
    folder = find(source, revision, cache_dir, local_files_only)
    if not (folder / WEIGHTS).exists():
        read(folder / WEIGHTS, None)  # says what is there instead
    header, arguments = read_config(folder / CONFIG)
    tensors = read(folder / WEIGHTS, header.get("weights"))
    name = header["model"]
    try:
        net = build(name, {**arguments, **overrides})
    except UnknownName as error:
        if name in list_models():
            raise
        raise UnknownName(f"{folder / CONFIG}: {error}; a newer spikeloom may have it") from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise PretrainedError(
            f"{folder / CONFIG}: model {name} of spikeloom {_version()} does not take these arguments "
            f"({error}); they were saved by spikeloom {header.get('version')}"
        ) from error
    if header.get("memory_format") == "channels_last":
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fill(net, tensors, folder / WEIGHTS, f"model {name} with the arguments of config.json")
    return net.eval()


def find(
    source: Path | str,
    revision: str | None,
    cache_dir: Path | str | None = None,
    local_files_only: bool = False,
    **options: Any,
) -> Path:
    """Return the folder that `source` names; of what is on the hub, three files are downloaded.

    Arguments and errors are those of `from_pretrained`; `options` are further ones of the hub's download.
    """
    path = Path(source).expanduser()
    refuse_pickle(path)
    if path.is_dir():
        if revision is not None:
            raise PretrainedError(
                f"{source} is a folder here, which has no revision {revision!r}; leave revision out"
            )
        return path
    text = str(source)
    if path.exists() or isinstance(source, Path) or text[:1] in (".", "/", "~") or text.count("/") > 1:
        raise PretrainedError(f"{source}: there is no such folder; give one that save_pretrained wrote")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{source} is no folder here; to look for it on the Hugging Face hub: "
            "pip install 'spikeloom[hub]'"
        ) from error
    try:
        found = huggingface_hub.snapshot_download(
            text,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=[CONFIG, WEIGHTS, CARD],  # a pickle is not even downloaded
            library_name="spikeloom",
            library_version=_version(),
            **options,
        )
    except Exception as error:  # the hub's own, and those of the network library of its version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision!r}" if revision else ""
        raise PretrainedError(
            f"{source} is no folder here, and the Hugging Face hub did not give it{at} ({reason}); check the "
            "name and the connection, and `hf auth login` for a private one"
        ) from error
    return Path(found)


def write_folder(
    folder: Path,
    config: dict[str, Any],
    weights: bytes,
    card: ModelCard | str | None,
    new: ModelCard | str,
    mixin: bool = False,
) -> None:
    """Write the three files. One who reads between two renamings finds that config and weights do not fit.

    Arguments:
        folder: where; made if it does not exist.
        config: what `config.json` holds.
        weights: the bytes of `model.safetensors`.
        card: what was asked for; None keeps a README.md that is there.
        new: what README.md is to say.
        mixin: the hub's mixin saves, whose config.json has no entry of ours.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PretrainedError(f"{folder} cannot be made ({error}); choose another folder") from error
    _refuse_foreign(folder, card is not None, mixin)
    files = {WEIGHTS: weights, CONFIG: json.dumps(config, indent=2, ensure_ascii=False).encode()}
    if card is not None or not (folder / CARD).exists():
        files[CARD] = (new if isinstance(new, str) else new.markdown()).encode()
    try:
        write(folder, files)
    except OSError as error:
        raise PretrainedError(
            f"{folder} cannot be written ({error}); free some space or choose another folder, and save again"
        ) from error


def _refuse_foreign(folder: Path, card: bool, mixin: bool) -> None:
    names = (CONFIG, WEIGHTS, CARD) if card else (CONFIG, WEIGHTS)
    there = [name for name in names if (folder / name).exists()]
    if not there:
        return
    try:
        ours = (KEY in json.loads((folder / CONFIG).read_bytes())) != mixin
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise PretrainedError(
            f"{folder} holds {', '.join(there)}, which save_pretrained did not write there and will not "
            "replace; choose another folder, or remove them"
        )


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our entry of config.json and the model's arguments."""
    remedy = "give a folder that sl.models.save_pretrained wrote"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        run = (path.parent / "metrics.jsonl").exists()
        hint = f"it is a training run: spikeloom card {path.parent} writes such a folder" if run else remedy
        raise PretrainedError(f"{path} does not exist; {hint}") from error
    except (OSError, ValueError) as error:
        raise PretrainedError(f"{path} cannot be read ({error}); {remedy}") from error
    header = config.pop(KEY, None) if isinstance(config, dict) else None
    if not isinstance(header, dict) or not isinstance(header.get("model"), str):
        raise PretrainedError(
            f"{path} has no entry {KEY!r} that names a model, so another library wrote it, or the mixin: "
            f"YourClass.from_pretrained reads what the mixin saved; else {remedy}"
        )
    if header.get("format") != FORMAT:
        raise PretrainedError(
            f"{path} is of format {header.get('format')!r}, saved by spikeloom {header.get('version')}; "
            f"spikeloom {_version()} reads format {FORMAT}: pip install --upgrade spikeloom"
        )
    return header, config


def _memory_format(net: nn.Module) -> str:
    """Return how the weights lie in memory: convolutions round in another order where it differs."""
    last = any(
        p.ndim == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in net.parameters()
    )
    return "channels_last" if last else "contiguous"


def _version() -> str:
    from .. import __version__

    return __version__
