"""Several samplers over the same data set."""

from __future__ import annotations

from config.errors import UserError
from data.kinds import SAMPLERS
from data.sampler.plan import Size
from data.sampler.section import Sampler, SamplerSection

NAME = "chain_sampler"


@SAMPLERS.register(NAME, options=SamplerSection)
class ChainSampler:
    """Each sampler of the chain covers the data set in every epoch, in sequence or in turns.

    The base size, that of evaluation, is the one of the first.
    """

    def __init__(self, options: SamplerSection, *, batch_size: int):
        key = f"sampler.{NAME}"
        if not options.chain_sampler:
            raise UserError(f"{key}: no samplers are listed; each needs a sampler_config")
        for number, link in enumerate(options.chain_sampler):
            if link.sampler_config.name == NAME:
                text = "a chain cannot hold a chain; list its samplers here"
                raise UserError(f"{key}[{number}].sampler_config.name: {text}")
        self.samplers: tuple[Sampler, ...] = tuple(
            SAMPLERS.build(link.sampler_config, batch_size=link.train_batch_size0 or batch_size)
            for link in options.chain_sampler
        )
        self.interleave = options.chain_sampler_mode == "interleave"
        self.base = self.samplers[0].base._replace(batch=batch_size)

    def sizes(self, epoch: int) -> list[Size]:
        return sorted({size for sampler in self.samplers for size in sampler.sizes(epoch)})

    def notes(self) -> list[str]:
        how = "their steps in turn" if self.interleave else "one after the other"
        first = f"an epoch covers the data {len(self.samplers)} times, {how}: {NAME}"
        return [first, *(note for sampler in self.samplers for note in sampler.notes())]
