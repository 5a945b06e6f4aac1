"""Numbers as evidence: every way to write a figure, a measure, a time or a date, and one name for what it means."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from memcli.dedup.gates.words import MONTHS

# Case is the unit: mW and MW, Mb and MB. Each is told by one base unit and how many of it make one.
_UNIT_TABLE = """s 1 s, ms 1/1000 s, µs 1/1000000 s, us 1/1000000 s, ns 1/1000000000 s, min 60 s, h 3600 s, B 1 B, KB
1 KB,
kB 1 KB, MB 1 MB, GB 1 GB, TB 1 TB, PB 1 PB, KiB 1 KiB, MiB 1 MiB, GiB 1 GiB, Hz 1 Hz, kHz 1000 Hz, MHz 1000000 Hz,
GHz 1000000000 Hz, m 1 m, mm 1/1000 m, cm 1/100 m, km 1000 m, mcg 1/1000000 g, µg 1/1000000 g, mg 1/1000 g, g 1 g, kg
1000 g,
ml 1/1000 l, mL 1/1000 l, l 1 l, L 1 l, dl 1/10 l, % 1 %, °C 1 °C, °F 1 °F, $ 1 $, € 1 €, £ 1 pound, ¥ 1 ¥, kW 1000 W,
W 1
W,
kWh 1 kWh, V 1 V, ft 12 in, in 1 in, m^2 1 m^2, km^2 1 km^2, cm^2 1 cm^2, ft^2 1 ft^2, m^3 1 m^3, sqm 1 m^2, sqft 1
ft^2, cup 1 cup, tbsp 1 tbsp, tsp 1 tsp, gal 1 gal, lb 1 pound, lbs 1 pound, oz 1 oz, mi 1 mi, mph 1 mph, km/h 1 km/h,
kph 1 km/h, px 1 px, kcal 1
kcal,
USD 1 $, EUR 1 €, GBP 1 pound, JPY 1 ¥, d 86400 s"""
_UNITS = {name: (base, Fraction(size)) for name, size, base in map(str.split, _UNIT_TABLE.split(","))}
_NAMES = """% percent, °C celsius, °F fahrenheit, $ dollar dollars bucks usd, € euro euros eur, £ gbp, ms millisecond
milliseconds msec msecs, s sec secs second seconds, min mins minute minutes, h hr hrs hour hours, d day days, KB
kilobyte
kilobytes, MB megabyte megabytes, GB gigabyte gigabytes, TB terabyte terabytes, m metre metres meter meters, mm
millimetre millimetres millimeter
millimeters, cm centimetre centimetres centimeter centimeters, km kilometre kilometres kilometer kilometers kms, mg
milligram milligrams, mcg microgram micrograms, g gram grams, kg kilogram kilograms kilo kilos kgs, ml millilitre
millilitres milliliter milliliters, l litre litres liter liters, lb pound pounds lbs, oz ounce ounces, ft foot feet,
in inch inches, cup cup cups, tbsp tbsp tablespoon tablespoons, tsp tsp teaspoon teaspoons, gal gallon gallons,
mi mile miles, px pixel pixels, Hz hertz, W watt watts, kW kilowatt kilowatts, V volt volts"""
# Written without a capital where nothing has one: still bytes, hertz and degrees.
_UNCASED = {
    "mb": "MB",
    "gb": "GB",
    "kb": "KB",
    "tb": "TB",
    "hz": "Hz",
    "khz": "kHz",
    "mhz": "MHz",
    "ghz": "GHz",
    "kwh": "kWh",
}
_UNCASED |= {"°c": "°C", "°f": "°F", "kw": "kW"}
SPELLED = {name: unit for unit, *names in map(str.split, _NAMES.split(",")) for name in names}
_LONG_TIMES = dict.fromkeys(("week", "weeks", "wk", "wks"), ("s", Fraction(7 * 86400)))
_LONG_TIMES |= dict.fromkeys(("fortnight", "fortnights"), ("s", Fraction(14 * 86400)))
_LONG_TIMES |= dict.fromkeys(("decade", "decades"), ("month", Fraction(120)))
_LONG_TIMES |= dict.fromkeys(("century", "centuries"), ("month", Fraction(1200)))
_LONG_TIMES |= dict.fromkeys(("month", "months", "mo", "mos"), ("month", Fraction(1)))
_LONG_TIMES |= dict.fromkeys(("year", "years", "yr", "yrs"), ("month", Fraction(12)))
# How an amount is told: the largest unit that makes a whole number of it.
_TOLD = {
    "s": (("week", 7 * 86400), ("day", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", Fraction(1, 1000))),
    "m": (("km", 1000), ("m", 1), ("cm", Fraction(1, 100)), ("mm", Fraction(1, 1000))),
    "g": (("kg", 1000), ("g", 1), ("mg", Fraction(1, 1000)), ("mcg", Fraction(1, 1000000))),
    "month": (("year", 12), ("month", 1)),
    "in": (("ft", 12), ("in", 1)),
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_SHORT_SCALES = {"k": 1000, "K": 1000, "M": 10**6, "mn": 10**6, "bn": 10**9, "B": 10**9}
CURRENCIES = frozenset("$€£¥")

_ONES = "one two three four five six seven eight nine".split()
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMERALS = {word: value for value, word in enumerate(["zero", *_ONES, "ten", "eleven", "twelve", *_TEENS])}
NUMERALS |= {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
NUMERALS |= {
    f"{ten}-{one}": value + more
    for value, ten in zip(range(20, 100, 10), _TENS, strict=True)
    for more, one in enumerate(_ONES, start=1)
}
_IRREGULAR = dict(
    zip(
        "one two three five eight nine twelve".split(),
        "first second third fifth eighth ninth twelfth".split(),
        strict=True,
    )
)


def _ordinal(numeral: str) -> str:
    *front, last = numeral.split("-")
    named = _IRREGULAR.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return "-".join((*front, named))


def _ending(value: int) -> str:
    return "th" if value in range(11, 14) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


ORDINALS = {_ordinal(word): f"{value}{_ending(value)}" for word, value in NUMERALS.items() if value}
SCALES = frozenset(_SCALES)

FIGURE = re.compile(r"([-+<>=~≤≥±]*)([$€£¥]?)(\d+(?:[.,:/-]\d+)*)(%|[$€£¥]|°[CFcf]?|µ?[A-Za-z]+(?:/h|\^[23])?)?")
_PLAIN = re.compile(r"\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
_CLOCK = re.compile(r"(\d{1,2})(?:[:.]([0-5]\d))?")
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_MONTH_OF_YEAR = re.compile(r"(0?[1-9]|1[0-2])/((?:19|20)\d\d)")
_DAY = re.compile(r"0?([1-9]|[12]\d|3[01])(?:st|nd|rd|th)?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_ISO = re.compile(r"((?:19|20)\d\d)[-/.](\d\d?)[-/.](\d\d?)")
_SLASHED = re.compile(r"(\d\d?)([/.])(\d\d?)[/.]((?:19|20)\d\d)")
_DAYS = re.compile(r"(\d\d?)(?:st|nd|rd|th)?(?:-|\.\.)(\d\d?)(?:st|nd|rd|th)?")
_AMOUNT = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")
_NOON, _MONTHS_A_YEAR, _DAYS_A_MONTH, _LONGEST_RANGE = 12, 12, 31, 6
RANGE = ".."


def figure(sign: str, currency: str, digits: str, unit: str | None) -> str:
    """Return the one name of a figure: ("", "$", "18.5", "k") is "18500 $"."""
    if _THOUSANDS.fullmatch(digits):
        digits = digits.replace(",", "")
    dated = _written_date(digits) if not (sign or currency or unit) else ""
    if dated:
        return dated
    span = _RANGE.fullmatch(digits)
    if span and not sign and len(digits) <= _LONGEST_RANGE and Fraction(span[1]) != Fraction(span[2]):
        low, high = span.groups()
        span_of = ranged(low, high)
        return with_unit(span_of, unit or currency) or span_of if unit or currency else span_of
    if unit in _SHORT_SCALES and _PLAIN.fullmatch(digits):
        digits, unit = exact(Fraction(digits) * _SHORT_SCALES[unit]), None
    value = sign + digits
    if unit:
        value = with_unit(value, unit) or value + unit
    return with_unit(value, currency) or f"{value} {currency}" if currency else value


@lru_cache(maxsize=4096)
def with_unit(value: str, unit: str) -> str | None:
    """Return the number with its unit's one name, None when that is no known unit: ("300", "seconds") is "5 min"."""
    if RANGE in value:
        low, high = (with_unit(end, unit) for end in value.split(RANGE))
        return ranged(low, high) if low and high else None
    lowered = unit.lower()
    if lowered.replace(".", "") in ("am", "pm"):
        return _half_day(value, afternoon=lowered.startswith("p"))
    known = unit if unit in _UNITS else SPELLED.get(lowered) or _UNCASED.get(unit)
    base, size = _LONG_TIMES.get(lowered) or (_UNITS[known] if known else ("", Fraction(1)))
    if not base:
        return None
    exact = _AMOUNT.fullmatch(value) and not value.endswith("/0")
    return _told(base, Fraction(value) * size) if exact else f"{value} {known or base}"


def _half_day(value: str, *, afternoon: bool) -> str | None:
    clock = _CLOCK.fullmatch(value)
    if not clock or not 1 <= int(clock[1]) <= _NOON:
        return None
    return name_clock(int(clock[1]) % _NOON + (_NOON if afternoon else 0), clock[2] or "00")


def _told(base: str, amount: Fraction) -> str:
    for name, size in _TOLD.get(base, ()):
        if (amount / size).denominator == 1:
            return f"{amount / size} {name}"
    return f"{exact(amount)} {base}"


def exact(amount: Fraction) -> str:
    """Write a fraction without loss: as a decimal where it is one."""
    scaled = amount * 10**9
    return (
        f"{float(amount):.9f}".rstrip("0").rstrip(".")
        if scaled.denominator == 1 and abs(scaled) < 10**18
        else str(amount)
    )


def together(more: str, less: str) -> str:
    """Return the sum of two measures of which the second is less than one of the first's unit, "" for any others."""
    (many, unit), (few, part) = more.split(" ", 1), (*less.split(" ", 1), "")[:2]
    if part == "m" and unit == "h":
        part = "min"
    if not (_AMOUNT.fullmatch(many) and _AMOUNT.fullmatch(few) and part in _UNITS):
        return ""
    base = _LONG_TIMES.get(unit) or _UNITS.get(unit)
    size = _UNITS[part]
    if base is None or base[0] != size[0] or base[0] not in _TOLD or not 0 < Fraction(few) * size[1] < base[1]:
        return ""
    return _told(base[0], Fraction(many) * base[1] + Fraction(few) * size[1])


def scaled(value: str, scale: str) -> str | None:
    """Return a plain number times "hundred", "million", "dozen"; None when it is none."""
    return exact(Fraction(value) * _SCALES[scale]) if _PLAIN.fullmatch(value) else None


def added(value: str, more: str) -> str | None:
    """Return the sum where one numeral continues another ("two hundred", "five"); None where it does not."""
    if value.isdigit() and more.isdigit() and int(value) and int(value) % 100 == 0 and int(more) < 100:  # noqa: PLR2004
        return str(int(value) + int(more))
    return None


def name_clock(hour: int, minutes: str) -> str:
    """Name a time of day apart from a duration or a score of the same figures."""
    return f"{hour:02}:{minutes} o'clock"


def clock(value: str) -> str | None:
    """Return "7:40" as a time of day, None when it is none."""
    time = _TIME_OF_DAY.fullmatch(value)
    return name_clock(int(time[1]), time[2]) if time else None


def is_clock(value: str) -> bool:
    """Whether the one name of a figure is that of a time of day."""
    return value.endswith("o'clock")


def ranged(low: str, high: str) -> str:
    """Return the one name of what lies from one figure to another."""
    return f"{low}{RANGE}{high}"


def _written_date(digits: str) -> str:
    """Return "2026-03-05" for figures that can only be that date; "" for what is no date or two."""
    iso = _ISO.fullmatch(digits)
    if iso:
        year, month, day = (int(part) for part in iso.groups())
        return name_date(year, month, day) if month <= _MONTHS_A_YEAR and 1 <= day <= _DAYS_A_MONTH and month else ""
    month_only = _MONTH_OF_YEAR.fullmatch(digits)
    if month_only:
        return f"{month_only[2]}-{int(month_only[1]):02}"
    slashed = _SLASHED.fullmatch(digits)
    if not slashed:
        return ""
    first, second, year = int(slashed[1]), int(slashed[3]), int(slashed[4])
    day_first = slashed[2] == "." or first > _MONTHS_A_YEAR
    if not day_first and second <= _MONTHS_A_YEAR and first != second:
        return ""
    day, month = (first, second) if day_first else (second, first)
    return name_date(year, month, day) if 1 <= month <= _MONTHS_A_YEAR and 1 <= day <= _DAYS_A_MONTH else ""


def name_date(year: int | str, month: int, day: int) -> str:
    """Return the one name of a day; `year` is "" where it is not told."""
    return f"{year or '-'}-{month:02}-{day:02}"


def date(first: str, second: str, third: str) -> tuple[str, int]:
    """Return the date that three words begin with and how many of them it takes; ("", 0) when it is none.

    "march", "5", "2026" and "5th", "mar", "2026" are "2026-03-05"; "20..23", "february", "2026" is a range of two.
    """
    month = MONTHS.get(first) or MONTHS.get(second)
    if month is None or (first in MONTHS and second in MONTHS):
        return "", 0
    if first in MONTHS and _YEAR.fullmatch(second):
        return f"{second}-{month:02}", 2
    written = second if first in MONTHS else first
    year = third if _YEAR.fullmatch(third) else ""
    span = _DAYS.fullmatch(written)
    if span:
        days = [int(day) for day in span.groups()]
        if not all(1 <= day <= _DAYS_A_MONTH for day in days):
            return "", 0
        return ranged(name_date(year, month, days[0]), name_date(year, month, days[1])), 3 if year else 2
    day = _DAY.fullmatch(written)
    if day is None:
        return "", 0
    return name_date(year, month, int(day[1])), 3 if year else 2
