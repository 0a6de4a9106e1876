// How a team goes over elements: four to a turn and thread, since each load alone is waited for as long as all together.

// No loop has more turns: some devices end one, without a word, after 65,535.
const uint TURNS_MAX = 32768;

#define FOR_TURNS(turn, turns)                                                                                        \
    for (uint turn##_from = 0, turn##_end = turns; turn##_from < turn##_end; turn##_from += TURNS_MAX)                \
        for (uint turn = turn##_from; turn < min(turn##_end, turn##_from + TURNS_MAX); ++turn)

#define FOUR(DO) DO(x) DO(y) DO(z) DO(w)

uint turns_of(uint count, uint at_once) { return count / at_once + uint(count % at_once != 0); }

// Runs what follows for each turn; `places` then tells where the turn's four elements lie, of which some may be `count` or more.
#define EACH(by, turn, count) FOR_TURNS(turn, turns_of(count, 4 * (by).size))

uvec4 places(Team by, uint turn) { return (4 * turn + uvec4(0, 1, 2, 3)) * by.size + by.rank; }

// Elements `first + at * stride`; 0 for those that are not there.
uvec4 load(Words from, uint first, uint stride, uvec4 at, uint count) {
    uvec4 value = uvec4(0);
#define LOAD(c) \
    if (at.c < count) value.c = from.words[first + at.c * stride];
    FOUR(LOAD)
    return value;
}

uvec4 load(Words from, uvec4 at, uint count) { return load(from, 0, 1, at, count); }

void store(Words to, uint first, uvec4 at, uint count, uvec4 value) {
#define STORE(c) \
    if (at.c < count) to.words[first + at.c] = value.c;
    FOUR(STORE)
}

void store(Words to, uvec4 at, uint count, uvec4 value) { store(to, 0, at, count, value); }
