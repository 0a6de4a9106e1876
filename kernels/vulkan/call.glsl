// One operation as the kernels see it, and its answer; `kernels/src/kernel.rs` says the same in Rust.

const uint OPERATION_WORDS = 24, ANSWER_WORDS = 16, PAYLOAD_WORDS = 14;
const uint NO_ANSWER = 0xffffffff;
const uint WRITTEN = 1, UNKNOWN = 2;

// Operations that are no kernels.
const uint COPY_BYTES = 0xffff0001, ZERO_WORDS = 0xffff0002, ECHO = 0xffff0003;

// Elements of a buffer are counted below 2^31: that far an index of SPIR-V reaches.
struct Call {
    uint what;
    // Elements to work on.
    uint count;
    Words input_words, operand, output_words;
    uint constant;
    uint scalars[6];
    uint answer;
};

// The operation at hand.
Call call;
// What it has pushed to its answer.
uvec2 pushed;
uint pushed_bytes;

Words pointer(Words from, uint first) { return Words(uvec2(from.words[first], from.words[first + 1])); }

void take(Words from) {
    call.what = from.words[0];
    call.count = from.words[1];
    call.input_words = pointer(from, 2);
    call.operand = pointer(from, 4);
    call.output_words = pointer(from, 6);
    call.constant = from.words[11];
    call.scalars[0] = from.words[12];
    call.scalars[1] = from.words[13];
    call.scalars[2] = from.words[14];
    call.scalars[3] = from.words[15];
    call.scalars[4] = from.words[16];
    call.scalars[5] = from.words[17];
    call.answer = from.words[18];
    pushed = uvec2(0);
    pushed_bytes = 0;
}

// By all threads of the workgroup that answers: each pushes the same.
void push(uint value) {
    if (pushed_bytes == 0) pushed.x = value;
    else pushed.y = value;
    pushed_bytes += 4;
}

// A record is `words` from the address on, without a carry into the upper half being lost.
Words record(uvec2 base, uint index, uint words) {
    uint high, low, carry;
    umulExtended(index, words * 4, high, low);
    low = uaddCarry(base.x, low, carry);
    return Words(uvec2(low, base.y + high + carry));
}

// Writes the answer by the first threads of a workgroup, a word each.
void answer_with(uvec2 answers, Words operation, uint written) {
    uint word = gl_LocalInvocationIndex;
    if (call.answer == NO_ANSWER || word >= ANSWER_WORDS) return;
    bool echo = call.what == ECHO;
    uint value = 0;
    if (word == 15) value = written;
    else if (word == 14) value = echo ? PAYLOAD_WORDS * 4 : pushed_bytes;
    else if (echo) value = operation.words[1 + word];
    else if (word == 0) value = pushed.x;
    else if (word == 1) value = pushed.y;
    record(answers, call.answer, ANSWER_WORDS).words[word] = value;
}
