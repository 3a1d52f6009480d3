"""Sentences of many scripts, on which a checkpoint's tokenizer is tried before anything is exported."""

from __future__ import annotations

__all__ = ["PROBE_TEXTS"]

PROBE_TEXTS = (
    "The bridge was built by Rollo Smith in Amsterdam in 1963, a year (or two) late.",
    "WHO wrote it? I.e. the e-mail of O'Neill & Sons, no. 17: $3.2 million or 25%!",
    "  two  blanks,\ttabs and\nlines  at the end  ",
    "Der Fuchs läuft über die Straße. Où est née Zoë Škvorecká, à Łódź?",
    "¿Dónde está el señor Núñez? A ação começou em São Paulo.",
    "Cafe\u0301 and nai\u0308ve, written with combining marks.",
    "Ο Σωκράτης γεννήθηκε στην Αθήνα το 470 π.Χ.",
    "Москва — столица России; основана в 1147 году.",
    "ירושלים היא עיר הבירה, ואוכלוסייתה גדולה.",
    "القاهرة عاصمة مصر، وعدد سكانها عشرة ملايين.",
    "दिल्ली भारत की राजधानी है।",
    "ঢাকা বাংলাদেশের রাজধানী।",
    "சென்னை தமிழ்நாட்டின் தலைநகரம்.",
    "กรุงเทพเป็นเมืองหลวงของประเทศไทย",
    "東京は日本の首都です。1868年に改名された。",
    "北京是中华人民共和国的首都。",
    "서울은 대한민국의 수도이다.",
    "Երևանը Հայաստանի մայրաքաղաքն է։",
    "თბილისი საქართველოს დედაქალაქია.",
    "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።",
    "A rocket 🚀 and a family 👩‍👩‍👧 at 5 €.",
)
