"""The Hugging Face hub's mixin for a class of your own, over files that are never unpickled."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from .card import ModelCard
from .pretrained import WEIGHTS, find, write_folder
from .weights import fill, pack, read


@functools.cache
def hub_mixin() -> type:
    """Return `HubMixin`, the hub's mixin for modules; `sl.models.HubMixin` is the same.

        class Net(nn.Module, sl.models.HubMixin):
            def __init__(self, width: int = 64) -> None: ...

        net = Net(width=32)
        net.save_pretrained("folder")                       # config.json, model.safetensors, README.md
        net = Net.from_pretrained("folder")                 # or "someone/net", revision="v1"
        net.push_to_hub("someone/net")

    It is `huggingface_hub.PyTorchModelHubMixin`: each reads the other's folders. It differs in that a file is
    replaced whole or not at all, weights that do not fit are errors with their names, each tensor keeps the
    dtype that it was saved in, and where there is no `model.safetensors` no pickle is read in its place.
    Arguments of `__init__` that JSON cannot hold are not saved: give `coders=` in the class's line, as the
    hub describes.

    Raises:
        ImportError: `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError as error:
        raise ImportError(
            "HubMixin is the Hugging Face hub's mixin, which is not installed: pip install 'spikeloom[hub]'"
        ) from error

    class HubMixin(  # type: ignore[call-arg]
        PyTorchModelHubMixin, library_name="spikeloom", tags=["spiking-neural-network"]
    ):
        """`save_pretrained`, `from_pretrained`, `push_to_hub` for a module of your own; see `hub_mixin`."""

        def save_pretrained(
            self,
            save_directory: str | Path,
            *,
            config: Any = None,
            repo_id: str | None = None,
            push_to_hub: bool = False,
            model_card_kwargs: dict[str, Any] | None = None,
            card: ModelCard | str | None = None,
            **push_options: Any,
        ) -> str | None:
            """Write config.json, model.safetensors and README.md; push them if asked to."""
            net: Any = self
            values = net._hub_mixin_config if config is None else config
            if dataclasses.is_dataclass(values) and not isinstance(values, type):
                values = dataclasses.asdict(values)
            folder = Path(save_directory)
            new = card or str(self.generate_model_card(**(model_card_kwargs or {})))
            write_folder(folder, dict(values or {}), pack(net), card, new, mixin=True)
            if not push_to_hub:
                return None
            return self.push_to_hub(
                repo_id=repo_id or folder.name,
                config=values,
                model_card_kwargs=model_card_kwargs,
                **push_options,
            )

        @classmethod
        def _from_pretrained(
            cls,
            *,
            model_id: str,
            revision: str | None,
            cache_dir: str | Path | None,
            force_download: bool,
            local_files_only: bool,
            token: str | bool | None,
            map_location: str = "cpu",
            **arguments: Any,
        ) -> Any:
            for gone in ("proxies", "resume_download"):  # from hubs before 1.0
                arguments.pop(gone, None)
            net: Any = cls(**arguments)
            folder = find(
                model_id, revision, cache_dir, local_files_only, token=token, force_download=force_download
            )
            fill(net, read(folder / WEIGHTS, None), folder / WEIGHTS, cls.__name__)
            return net.to(map_location).eval()

    return HubMixin
