"""A guider under which a model prepares a text once, however many sessions have it.

MiniMax H3 refines the text of a prompt, LTX-2 passes it through connectors. ComfyUI has that done
when a sampling session opens, and a stream opens many: one for every run of Stream Chunks, and one
for every chunk where prompts change or pictures are decoded between chunks. Both models take a text
that they have prepared as it is, and what comes out is the same to the bit.
"""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.families import ModelTraits
from ..model.prepared_texts import PreparedTexts

_TEXT, _MADE = "cross_attn", "c_crossattn"
NamedConditionings = dict[str, tuple[str, list[Any]]]
"""Conditionings as the host takes them, by role, each behind what its prepared text is kept by."""


class TextGuider(comfy.samplers.CFGGuider):
    """A guider that hands a model the texts which it has prepared before.

    Args:
        model: The MODEL.
        traits: What is known of it.
        texts: The texts that it has prepared.
    """

    def __init__(self, model: ModelPatcher, traits: ModelTraits, texts: PreparedTexts) -> None:
        super().__init__(model)
        self._traits, self._texts = traits, texts
        self._named: NamedConditionings = {}
        self._given: dict[str, dict[str, Any]] = {}

    def set_named(self, named: NamedConditionings) -> None:
        """Set the conditionings, those that there are not with no entries.

        Args:
            named: The conditionings. A key stands for the prompt, and for the model with all that
                is on it; a text without one is not kept.
        """
        self._named = named
        self.inner_set_conds({name: given for name, (_, given) in named.items()})

    def inner_sample(self, *args: Any, **kwargs: Any) -> Any:
        """Open the session, after wrappers of other packs have seen the prompts as they are."""
        for role, (key, given) in self._named.items():
            if not (key and self._is_given(role, given)):
                continue
            known, entry = self._texts.find(key), self.conds[role][0]
            if known is not None:
                plain = {k: v for k, v in entry.items() if k != self._traits.unprepared}
                self._given[role], self.conds[role] = entry, [{**plain, _TEXT: known}]
        return super().inner_sample(*args, **kwargs)

    def keep_texts(self) -> None:
        """Keep what was prepared for the session that is open, and bring the prompts back."""
        for role, (key, given) in self._named.items():
            before = self._given.pop(role, None)
            if before is not None:
                entry, *others = self.conds[role]
                self.conds[role] = [{**before, **entry, _TEXT: before[_TEXT]}, *others]
            elif key and self._is_given(role, given):
                made = self.conds[role][0]["model_conds"].get(_MADE)
                text = getattr(made, "cond", None)
                if isinstance(text, Tensor) and self._passes(text):
                    self._texts.keep(key, text)

    def _is_given(self, role: str, given: list[Any]) -> bool:
        """Say whether a prompt is as it was given; another node may have put one in its place."""
        entries = self.conds.get(role) or []
        return len(entries) == len(given) == 1 and entries[0].get(_TEXT) is given[0][0]

    def _passes(self, text: Tensor) -> bool:
        """Say whether the model takes a text that it has prepared as it is."""
        widths, dtype = self._traits.more_text_widths, self.inner_model.get_dtype_inference()
        return text.shape[-1] in widths and text.dtype == dtype
