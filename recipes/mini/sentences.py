# SPDX-License-Identifier: Apache-2.0
"""English sentences from a small grammar: what the mini corpus says.

A production is a line of text in which `<name>` stands for a symbol of the grammar; each draw takes
one production at random. All verbs are in the past tense, so subject and verb always agree. The
words were chosen to be read the same way by every voice (no "read", "live" or "wind") and to hold
all phones of English, the rare ones too (measure, boy, thief).
"""

import re

import numpy as np

_LINES = {
    "sentence": """
        <np> <did>.
        <np> <did>.
        <np> <did> <when>.
        <when>, <np> <did>.
        <When>, <np> <did>.
        <np> <did>, and <np> <did>.
        <np> <did>, but <who> <did>.
        <who> <did> because <np> <went> <place>.
        <np> <who_rel> was <more> <quality> than <np>.
        <np> was as <quality> as <np>.
        <np> was never <quality> <when>.
        we found <number> <things> <place>.
        she left <indefinite> <place>, and <who> <did>.
        <number> <things> and <number> <things> were <adverb> <done> by <np>.
        <np> was <done> by <np> <place>.
        <np> and <np> <went> <place> <when>.
        please <order> <place>.
        please <order>, and then <order>.
        why did <np> <do> <when>?
        how many <things> did <np> <do_take> <place>?
        <name> told <name> that <np> <did>.
        "<order>," said <np> <adverb>.
        if <name> could <do>, <who> would <do> too.
        after <number> <times>, <np> finally <did>.
        nobody <place> knew that <np> <did>.
        what <np> wanted was <indefinite>, not <indefinite>.
        either <name> or <np> <did> <when>.
        although <np> was <quality>, <who> <adverb> <did>.
    """,
    "np": """
        the <person>
        the <person>
        the <quality> <person>
        the <animal>
        the <quality> <animal>
        her <person>
        his <quality> <animal>
        <name>
        <name>
        the <person> from the <spot>
        the <person> with the <quality> <thing>
    """,
    "indefinite": "a <thing>\na <quality> <thing>\na <colour> <thing>\na <quality> <animal>",
    "object": """
        the <thing>
        a <thing>
        the <colour> <thing>
        a <quality> <thing>
        her <thing>
        his <colour> <thing>
        their <things>
        some <quality> <things>
        <number> <things>
        <np>
        the <thing> of the <person>
    """,
    "did": """
        <took> <object>
        <took> <object>
        <took> <object> <place>
        <adverb> <took> <object>
        <went> <place>
        <adverb> <went> <place>
        <gave> <name> <object>
        <took> <object> and <took> <object>
    """,
    "do": "<do_take> <object>\n<do_take> <object> <place>",
    "order": """
        bring <name> the <colour> <thing>
        put the <thing> on the <thing>
        open the <quality> <thing>
        <do_take> the <things>
        give the <animal> a <thing>
        choose <number> <things>
    """,
    "place": """
        in the <spot>
        near the <quality> <spot>
        behind the <spot>
        under the <thing>
        through the <spot>
        across the <quality> <spot>
        between the <spot> and the <spot>
        beyond the <spot>
        beside the <thing>
        around the <spot>
    """,
    "when": """
        today
        yesterday
        this morning
        last evening
        late at night
        in the early spring
        last winter
        before the storm
        after the long journey
        on Thursday
        every single year
        once again
        in the middle of July
        without any reason
        as usual
        a few hours later
    """,
    "When": """
        when the <animal> <went> <place>
        while <np> <took> <object>
        as soon as <np> <took> <object>
        before <who> <took> <object>
    """,
    "who": "he\nshe\nthey\nwe\nyou\nI",
    "who_rel": "who <took> <object>\nwho <went> <place>",
    "more": "more\nless\nmuch more\nno less",
}

_WORDS = {
    "person": """
        man woman child boy girl teacher doctor farmer king queen judge nurse soldier sailor baker
        painter stranger neighbour brother sister mother father uncle cousin prince thief merchant
        author pilot student captain engineer shepherd witness tailor butcher musician
    """,
    "name": """
        Alice Thomas George Julia Roy Ruth Victor Sophie Henry Margaret Oliver Beth Charles Zoe
        Hugo Nathan Joyce Edward Fiona Walter Jack Yvonne
    """,
    "animal": """
        dog cat horse mouse bird fish fox goose sheep cow pig goat wolf bear tiger monkey rabbit
        turtle spider eagle donkey elephant owl frog zebra chicken snake beetle
    """,
    "thing": """
        apple book letter picture table chair lamp hat coat key box ball boat wagon basket bottle
        candle watch mirror shirt jacket blanket hammer ladder pencil violin trumpet toy coin jewel
        vase shoe ring bowl spoon knife cushion treasure engine orange umbrella envelope bench
        cheese sausage potato onion button feather rope wheel shovel bucket bath journal
    """,
    "things": """
        apples books letters pictures tables chairs lamps hats coats keys boxes balls boats
        baskets bottles candles watches shirts jackets blankets hammers pencils toys coins jewels
        shoes rings spoons cushions treasures oranges envelopes potatoes buttons feathers ropes
        wheels horses birds sheep foxes voices stories pleasures
    """,
    "spot": """
        garden kitchen house street school river bridge mountain forest city village harbour
        station church castle tower field valley island beach market museum library hospital
        factory theatre garage cellar courtyard highway cave desert jungle hotel bathroom
    """,
    "quality": """
        old young big small good quiet strange happy gentle proud clever lazy curious honest brave
        careful gloomy joyful thirsty hungry noisy cheap heavy smooth rough ancient beautiful usual
        unusual fragile huge shy cold warm foolish generous wooden rusty slow pure royal wealthy
        thin thick soft cruel familiar enormous
    """,
    "colour": "red blue green white black yellow brown purple grey pink golden silver",
    "number": """
        two three four five six seven eight nine ten eleven twelve thirteen fifteen twenty thirty
        fifty sixty eighty
    """,
    "times": "days years weeks months hours minutes journeys visits",
    "took": """
        found saw heard took bought painted carried showed watched followed needed measured pushed
        pulled washed chose loved hated remembered forgot stole repaired destroyed enjoyed threw
        caught kept lost sold brought praised changed touched judged imagined described admired
        polished counted hid noticed opened
    """,
    "done": """
        found seen heard taken bought painted carried watched followed measured pushed washed
        chosen loved remembered stolen repaired destroyed thrown caught kept lost sold brought
        noticed described
    """,
    "do_take": """
        find see hear take buy paint carry watch follow need measure push pull wash choose love
        remember forget steal repair destroy enjoy throw catch keep lose sell bring change touch
        imagine describe count hide notice
    """,
    "gave": "gave showed sent brought offered sold handed",
    "went": """
        walked ran travelled jumped waited slept worked hurried wandered danced sang shouted
        whispered laughed stood sat played rode sailed vanished returned appeared rested
    """,
    "adverb": """
        slowly quickly often always suddenly quietly carefully happily usually nearly secretly
        gladly rarely proudly eagerly thoughtfully
    """,
}

Grammar = dict[str, list[str]]  # the productions of each symbol
GRAMMAR: Grammar = {
    **{
        name: [line.strip() for line in text.split("\n") if line.strip()]
        for name, text in _LINES.items()
    },
    **{name: text.split() for name, text in _WORDS.items()},
}
_SYMBOL = re.compile(r"<(\w+)>")
_WORD = re.compile(r"[A-Za-z]+")


def sentence(rng: np.random.Generator, grammar: Grammar = GRAMMAR) -> str:
    """One sentence with its punctuation: `The old farmer found a key.`"""

    def expand(match: re.Match[str]) -> str:
        productions = grammar[match[1]]
        return _SYMBOL.sub(expand, productions[rng.integers(len(productions))])

    text = _SYMBOL.sub(expand, "<sentence>")
    text = re.sub(r"\b([Aa]) (?=[aeio]|un(?!i)|um)", r"\1n ", text)
    return re.sub(r"^\W*[a-z]", lambda match: match[0].upper(), text)


def sentence_of(
    rng: np.random.Generator, *, min_words: int, max_words: int, grammar: Grammar = GRAMMAR
) -> str:
    """One sentence with `min_words` to `max_words` words; about 4 to 20 are to be had."""
    while not min_words <= len(words(text := sentence(rng, grammar))) <= max_words:
        pass
    return text


def sentences(rng: np.random.Generator, *, min_words: int, max_words: int) -> list[str]:
    """Sentences with `min_words` to `max_words` words together."""
    out: list[str] = []
    num_words = 0
    while num_words < min_words:
        text = sentence(rng)
        if num_words + len(words(text)) <= max_words:
            out.append(text)
            num_words += len(words(text))
    return out


def words(text: str) -> list[str]:
    """The words of a text in capitals, without punctuation, as a LibriSpeech transcript has them.

    >>> words("The old farmer, said Zoe, found a key.")
    ['THE', 'OLD', 'FARMER', 'SAID', 'ZOE', 'FOUND', 'A', 'KEY']
    """
    return [word.upper() for word in _WORD.findall(text)]
