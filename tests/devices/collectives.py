"""Programs on eight devices whose collectives are known; prints what is found of them."""

import json

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from tiny_cases import train_layout

from pmc_jax.planning.cost import collective_bytes


def main() -> None:
    mesh = train_layout((1, 1, 8)).mesh
    by_row = NamedSharding(mesh, PartitionSpec("tensor", None))
    by_column = NamedSharding(mesh, PartitionSpec(None, "tensor"))
    x, w = jnp.ones((16, 32)), jnp.ones((32, 32))

    def product(x):
        y = jax.lax.with_sharding_constraint(x, by_column)
        out = y @ jax.lax.with_sharding_constraint(w, by_row)
        return jax.lax.with_sharding_constraint(out, NamedSharding(mesh, PartitionSpec()))

    def repeated(x):
        return jax.lax.fori_loop(0, 5, lambda i, x: jnp.tanh(product(x)), x)

    def until(x):
        return jax.lax.while_loop(lambda x: jnp.max(x) < 1, lambda x: jnp.tanh(product(x)), x)

    def either(x, yes):
        return jax.lax.cond(yes, product, lambda x: x, x)

    programs = {product: (x,), repeated: (x,), until: (x,), either: (x, True)}
    found = {
        f.__name__: collective_bytes(jax.jit(f).lower(*arguments).compile())
        for f, arguments in programs.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
