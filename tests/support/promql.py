"""As much of PromQL as the alarm `no-rows` needs, over two scrapes; Prometheus' own parser reads the expression."""

import operator

import promql_parser

COMPARED = {">": operator.gt, "==": operator.eq, "<": operator.lt}


def value(expression, before, after):
    """What an expression gives, by the labels that it keeps.

    A scrape is {(metric, labels as pairs): value}. As in Prometheus an increase needs two values, and a series that is
    not there is no 0.
    """
    return _value(promql_parser.parse(expression), before, after)


def _value(node, before, after):
    if isinstance(node, promql_parser.BinaryExpr):
        left, right = _value(node.lhs, before, after), None
        if str(node.op) == "unless":
            right = _value(node.rhs, before, after)
            return {labels: number for labels, number in left.items() if labels not in right}
        assert isinstance(node.rhs, promql_parser.NumberLiteral), "compared with a number only"
        holds = COMPARED[str(node.op)]
        return {labels: number for labels, number in left.items() if holds(number, node.rhs.val)}
    if isinstance(node, promql_parser.AggregateExpr):
        assert str(node.op) == "sum"
        kept, sums = set(node.modifier.labels), {}
        for labels, number in _value(node.expr, before, after).items():
            group = frozenset((name, text) for name, text in labels if name in kept)
            sums[group] = sums.get(group, 0) + number
        return sums
    assert isinstance(node, promql_parser.Call), node
    assert node.func.name == "increase"
    name = node.args[0].vector_selector.name
    return {
        labels: now - before[metric, labels]
        for (metric, labels), now in after.items()
        if metric == name and (metric, labels) in before
    }
