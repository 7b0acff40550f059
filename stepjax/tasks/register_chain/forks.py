"""Random programs with forks: from the query's chain other chains go off, which lead nowhere."""

from stepjax.config.register_chain import REGISTERS, RegisterChainConfig
from stepjax.tasks.drawn import Uniform
from stepjax.tasks.register_chain.program import Operand, Statement


def forked_statements(config: RegisterChainConfig, uniform: Uniform) -> tuple[list[Statement], str]:
    """A random program with forks, named and ordered as those of `random_statements`; with its query.

    Each chain that leads nowhere begins at the first literal or at a register of the query's chain before the query;
    all chains draw their operations alike and are defined side by side. A distractor is a literal or, with probability
    `dead_ends`, such a chain of one register.
    """
    drawing = _Drawing(config, uniform)
    operations, forks = drawing.between(*config.operations), drawing.between(*config.forks)
    distractors = drawing.between(*config.distractors)
    # Where on the query's chain a chain begins (0: its literal), and how many registers it has.
    waiting = [(int(uniform() * operations), drawing.between(*config.fork_steps)) for _ in range(forks)]
    alone = sum(uniform() < config.dead_ends for _ in range(distractors))
    waiting += [(int(uniform() * operations), 1) for _ in range(alone)]
    literals = distractors - alone
    query = [drawing.literal()]
    chains: list[tuple[list[str], int]] = [(query, operations)]
    while chains or literals:
        chains += [(query[: at + 1], steps) for at, steps in waiting if at < len(query)]
        waiting = [(at, steps) for at, steps in waiting if at >= len(query)]
        place = int(uniform() * (sum(left for _, left in chains) + literals))
        for number, (path, left) in enumerate(chains):
            if place < left:
                chains[number : number + 1] = [(path, left - 1)] if left > 1 else []
                still = sum(steps for _, steps in (*chains, *waiting)) + literals  # registers that must have a name
                drawing.go_on(path, spare=len(REGISTERS) - len(drawing.statements) - 1 - still)
                break
            place -= left
        else:
            literals -= 1
            drawing.literal()
    return drawing.statements, query[-1]


class _Drawing:
    """The statements drawn so far."""

    def __init__(self, config: RegisterChainConfig, uniform: Uniform):
        self.config, self.uniform = config, uniform
        self.statements: list[Statement] = []

    def between(self, low: int, high: int) -> int:
        return low + int(self.uniform() * (high - low + 1))

    def literal(self) -> str:
        return self._define("", self.between(0, self.config.modulus - 1), 0)

    def go_on(self, path: list[str], *, spare: int) -> None:
        """Derives a register from the path's last one and, like the query's chain of `random_statements`, a number, an
        earlier register of the path or a new literal; `spare`: names that are left for one."""
        right: Operand = self.between(1, self.config.modulus - 1)
        kind = self.uniform()
        if kind >= 0.75 and spare > 0:
            right = self.literal()
        elif kind >= 0.5 and len(path) > 1:
            right = path[int(self.uniform() * (len(path) - 1))]
        operators = self.config.operators
        path.append(self._define(operators[int(self.uniform() * len(operators))], path[-1], right))

    def _define(self, operator: str, left: Operand, right: Operand) -> str:
        self.statements.append(Statement(REGISTERS[len(self.statements)], operator, left, right))
        return self.statements[-1].register
