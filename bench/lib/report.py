"""Rows, medians, and the table for people."""
import statistics


def median(values):
    return statistics.median(values)


def row(system, metric, value, unit):
    return {"system": system, "metric": metric, "value": value, "unit": unit}


def ratio(over, under):
    return over / under if under else None


def print_table(result, floors):
    machine = result["machine"]
    print(f"{result['bench']}   {machine['date']}   {machine['cpus']} × {machine['cpu']}, "
          f"Linux {machine['kernel']}, {machine['filesystem']}\n")
    for r in result["rows"]:
        print(f"  {r['system']:<34} {r['metric']:<26} {number(r['value']):>12} {r['unit']}")
    print()
    for key, value in result["ratios"].items():
        print(f"  {key:<34} {number(value):>12}   {verdict(value, floors.get(key))}")


def number(value):
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdict(value, floor):
    """floor: (">=" or "<=", bound)."""
    if floor is None:
        return ""
    sign, bound = floor
    met = value is not None and (value >= bound if sign == ">=" else value <= bound)
    return f"floor {'≥' if sign == '>=' else '≤'} {bound}: {'met' if met else 'MISSED'}"
