// Copying bytes wherever they lie, and zeroing, in words: what shares a word with them stays.

// The bits of the bytes from `first` up to `end` of a word.
uint mask_of(uint first, uint end) {
    uint below = end >= 4 ? 0xffffffff : (1u << 8 * end) - 1;
    return below & ~((1u << 8 * first) - 1);
}

void put(Words to, uint at, uint value, uint mask) {
    if (mask != 0xffffffff) value = (to.words[at] & ~mask) | (value & mask);
    to.words[at] = value;
}

// Words that hold any of `count` bytes after the first `shift`.
uint words_over(uint shift, uint count) { return count == 0 ? 0 : count / 4 + (count % 4 + shift + 3) / 4; }

// What the word `at` of the target gets: bytes of two words of the source, of which only those are read that hold any.
uint shifted(Words from, uint at, uint ahead, uint shift, uint words) {
    uint first = at - ahead, value = 0;
    if (first < words) value = from.words[first] >> shift;
    if (shift != 0 && first + 1 < words) value |= from.words[first + 1] << (32 - shift);
    return value;
}

void copy_bytes(Team by) {
    Words from = call.input_words, to = call.output_words;
    uint count = call.count, from_byte = call.scalars[0], to_byte = call.scalars[1];
    uint words = words_over(from_byte, count), to_words = words_over(to_byte, count);
    uint ahead = from_byte < to_byte ? 1 : 0, shift = (from_byte - to_byte & 3) * 8;
    uint last = to_words - 1, end = (count + to_byte + 3) % 4 + 1;
    EACH(by, turn, to_words) {
        uvec4 at = places(by, turn), value = uvec4(0);
#define SHIFT(c) \
        if (at.c < to_words) value.c = shifted(from, at.c, ahead, shift, words);
        FOUR(SHIFT)
#define PUT(c) \
        if (at.c < to_words) put(to, at.c, value.c, mask_of(at.c == 0 ? to_byte : 0, at.c == last ? end : 4));
        FOUR(PUT)
    }
}

void zero_words(Team by) {
    EACH(by, turn, call.count) store(call.output_words, places(by, turn), call.count, uvec4(0));
    uint bytes = call.scalars[0];
    if (by.rank == 0 && bytes != 0) put(call.output_words, call.count, 0, mask_of(0, bytes));
}
