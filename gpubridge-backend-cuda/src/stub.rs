//! The PTX by which the ring finds users' kernels: the function `gpubridge_user`, generated anew for each set of them.

use std::fmt::Write;

/// What a function of a kernel takes and answers, see `kernels/cuda/gpubridge.cuh`.
const STEP: &str = "(.param .b32 step, .param .b64 call, .param .b64 words, .param .b64 scratch)";

/// PTX of a `gpubridge_user` that hands each step to the function of its kernel's index, and refuses it if there is none.
pub(crate) fn generate<'a>(functions: impl Iterator<Item = (u16, &'a str)> + Clone) -> String {
    let mut ptx = String::from(".version 7.0\n.target sm_75\n.address_size 64\n\n");
    let mut named: Vec<&str> = functions.clone().map(|(_, function)| function).collect();
    named.sort_unstable();
    named.dedup();
    for function in named {
        writeln!(ptx, ".extern .func (.param .b64 answer) {function}{STEP};").expect("a string takes what it is given");
    }
    ptx.push_str(HEAD);
    for (index, function) in functions {
        write!(ptx, "{}", CASE.replace("INDEX", &index.to_string()).replace("FUNCTION", function))
            .expect("a string takes what it is given");
    }
    ptx.push_str(TAIL);
    ptx
}

const HEAD: &str = "
.visible .func (.param .b64 answer) gpubridge_user(
    .param .b32 index, .param .b32 step, .param .b64 call, .param .b64 words, .param .b64 scratch)
{
    .reg .pred %other;
    .reg .b32 %index, %step;
    .reg .b64 %call, %words, %scratch, %answer;
    ld.param.b32 %index, [index];
    ld.param.b32 %step, [step];
    ld.param.b64 %call, [call];
    ld.param.b64 %words, [words];
    ld.param.b64 %scratch, [scratch];
    mov.b64 %answer, -1;
";

const CASE: &str = "    setp.ne.b32 %other, %index, INDEX;
    @%other bra after_INDEX;
    {
        .param .b32 a;
        .param .b64 b, c, d, got;
        st.param.b32 [a], %step;
        st.param.b64 [b], %call;
        st.param.b64 [c], %words;
        st.param.b64 [d], %scratch;
        call.uni (got), FUNCTION, (a, b, c, d);
        ld.param.b64 %answer, [got];
    }
    bra done;
after_INDEX:
";

const TAIL: &str = "done:
    st.param.b64 [answer], %answer;
    ret;
}
";

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that `.ci/sass` assembles and links.
    const TWO: &str = include_str!("../tests/stub.ptx");

    #[test]
    fn two_kernels_are_told_apart_by_their_index() {
        assert_eq!(generate([(0, "own_kernel"), (7, "other_kernel")].into_iter()), TWO);
    }

    #[test]
    fn a_function_of_two_kernels_is_declared_once() {
        let ptx = generate([(0, "decay"), (1, "decay")].into_iter());
        assert_eq!(ptx.matches(".extern").count(), 1, "{ptx}");
        assert_eq!(ptx.matches("call.uni (got), decay,").count(), 2, "{ptx}");
    }
}
