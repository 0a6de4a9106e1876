//! What each kernel of the library must come to, computed on the host in whole numbers of 64 bits. Floats are drawn as
//! whole numbers too: so their sums are exact here, and what a device makes of them differs by its roundings alone.

use fastrand::Rng;
use gpubridge::kernels::library::window_zscore::state_elements;
use gpubridge::kernels::{Element, id};
use gpubridge::{ElementType, Error, KernelId, KernelSpec, Parameters};

use super::super::reference;
use super::kernels::{Bench, INPUT, OPERAND, State};

/// Draws a call, makes it, and compares what comes of it.
pub type Model = fn(&mut Bench, Option<&mut State>) -> Result<(), Error>;

/// Lengths of the windows that scores are computed over.
const WINDOWS: [u32; 3] = [2, 64, 1000];
/// Floats are drawn from here.
const FLOATS: std::ops::RangeInclusive<i32> = -64..=64;

/// A result as a real number, which is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The number; integers of 32 bits wrap it.
    pub value: i64,
    /// The absolute values of all that enters it, added up.
    pub terms: i64,
}

impl From<i64> for Exact {
    fn from(value: i64) -> Self {
        Self { value, terms: value.abs() }
    }
}

/// An element type as the models draw and check it.
pub trait Value: Element {
    /// A random value: any integer, or a float that is whole and small.
    fn draw(random: &mut Rng) -> Self;
    /// The value as a whole number.
    fn whole(self) -> i64;
    /// A whole number as a value: integers wrap.
    fn of(whole: i64) -> Self;
}

impl Value for f32 {
    fn draw(random: &mut Rng) -> Self {
        random.i32(FLOATS) as f32
    }

    fn whole(self) -> i64 {
        self as i64
    }

    fn of(whole: i64) -> Self {
        whole as f32
    }
}

impl Value for i32 {
    fn draw(random: &mut Rng) -> Self {
        random.i32(..)
    }

    fn whole(self) -> i64 {
        self.into()
    }

    fn of(whole: i64) -> Self {
        whole as i32
    }
}

impl Value for u32 {
    fn draw(random: &mut Rng) -> Self {
        random.u32(..)
    }

    fn whole(self) -> i64 {
        self.into()
    }

    fn of(whole: i64) -> Self {
        whole as u32
    }
}

/// The model of a specialization, if there is one.
pub fn model_of(spec: KernelSpec) -> Option<Model> {
    macro_rules! of_each_type {
        ($model:ident) => {
            match spec.element {
                ElementType::F32 => $model::<f32>,
                ElementType::I32 => $model::<i32>,
                ElementType::U32 => $model::<u32>,
            }
        };
    }
    let of_floats = |model: Model| (spec.element == ElementType::F32).then_some(model);
    match spec.id {
        id::FILL => Some(of_each_type!(fill)),
        id::COPY => Some(of_each_type!(copy)),
        id::SCALE => of_floats(scale),
        id::ADD => Some(of_each_type!(add)),
        id::SAXPY => of_floats(saxpy),
        id::DOT => of_floats(dot),
        id::SUM => Some(of_each_type!(sum)),
        id::MIN_MAX => Some(of_each_type!(min_max)),
        id::MEAN_VARIANCE => of_floats(mean_variance),
        id::INCLUSIVE_SCAN => Some(of_each_type!(inclusive_scan)),
        id::HISTOGRAM => Some(of_each_type!(histogram)),
        id::TOP_K => of_floats(top_k),
        id::MATVEC => of_floats(matvec),
        id::MATMUL => of_floats(matmul),
        id::WINDOW_ZSCORE => of_floats(window_zscore),
        _ => None,
    }
}

/// The constants that a kernel with state is called with, each with the elements of its state.
pub fn windows_of(kernel: KernelId) -> impl Iterator<Item = (u32, u64)> {
    let windows = if kernel == id::WINDOW_ZSCORE { &WINDOWS[..] } else { &[] };
    windows.iter().map(|window| (*window, state_elements(*window)))
}

fn elements(count: usize) -> Parameters {
    Parameters::new().with_count(count as u32)
}

/// Runs a kernel that writes as many elements as it is told to work on, and compares them.
fn elementwise<T: Value>(
    bench: &mut Bench,
    uses: [bool; 3],
    parameters: Parameters,
    expected: &[Exact],
) -> Result<(), Error> {
    bench.guard(expected.len())?;
    bench.call(uses, parameters)?;
    let written = bench.written(expected.len())?;
    bench.expect::<T>(&written, expected);
    Ok(())
}

fn fill<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let value = T::draw(&mut bench.random);
    let expected = vec![value.whole().into(); count];
    elementwise::<T>(bench, [false, false, true], elements(count).with_u32(value.to_bits()), &expected)
}

fn copy<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let expected: Vec<Exact> = bench.draw::<T>(INPUT, count)?.into_iter().map(Exact::from).collect();
    elementwise::<T>(bench, [true, false, true], elements(count), &expected)
}

fn scale(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let factor = f32::draw(&mut bench.random);
    let input = bench.draw::<f32>(INPUT, count)?;
    let expected: Vec<Exact> = input.into_iter().map(|x| Exact::from(factor.whole() * x)).collect();
    elementwise::<f32>(bench, [true, false, true], elements(count).with_f32(factor), &expected)
}

fn add<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let (input, operand) = (bench.draw::<T>(INPUT, count)?, bench.draw::<T>(OPERAND, count)?);
    let sum = |(x, y): (i64, i64)| Exact { value: x + y, terms: x.abs() + y.abs() };
    let expected: Vec<Exact> = input.into_iter().zip(operand).map(sum).collect();
    elementwise::<T>(bench, [true; 3], elements(count), &expected)
}

fn saxpy(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let factor = f32::draw(&mut bench.random);
    let (input, operand) = (bench.draw::<f32>(INPUT, count)?, bench.draw::<f32>(OPERAND, count)?);
    let product = |x: i64| factor.whole() * x;
    let sum = |(x, y): (i64, i64)| Exact { value: product(x) + y, terms: product(x).abs() + y.abs() };
    let expected: Vec<Exact> = input.into_iter().zip(operand).map(sum).collect();
    elementwise::<f32>(bench, [true; 3], elements(count).with_f32(factor), &expected)
}

fn inclusive_scan<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let running = |sum: &mut Exact, x: i64| {
        *sum = Exact { value: sum.value + x, terms: sum.terms + x.abs() };
        Some(*sum)
    };
    let expected: Vec<Exact> = bench.draw::<T>(INPUT, count)?.into_iter().scan(Exact::from(0), running).collect();
    elementwise::<T>(bench, [true, false, true], elements(count), &expected)
}

/// The sum of these terms.
fn sum_of(terms: impl Iterator<Item = i64>) -> Exact {
    terms.fold(Exact::from(0), |sum, term| Exact { value: sum.value + term, terms: sum.terms + term.abs() })
}

fn sum<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let expected = sum_of(bench.draw::<T>(INPUT, count)?.into_iter());
    let answer = bench.call([true, false, false], elements(count))?;
    bench.expect_answer::<T>(&answer, &[expected]);
    Ok(())
}

fn dot(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let (input, operand) = (bench.draw::<f32>(INPUT, count)?, bench.draw::<f32>(OPERAND, count)?);
    let expected = sum_of(input.into_iter().zip(operand).map(|(x, y)| x * y));
    let answer = bench.call([true, true, false], elements(count))?;
    bench.expect_answer::<f32>(&answer, &[expected]);
    Ok(())
}

fn min_max<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let input = bench.draw::<T>(INPUT, count)?;
    let answer = bench.call([true, false, false], elements(count))?;
    let expected: Vec<Exact> =
        input.iter().min().into_iter().chain(input.iter().max()).copied().map(Exact::from).collect();
    bench.expect_answer::<T>(&answer, &expected);
    Ok(())
}

fn mean_variance(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let input = bench.draw::<f32>(INPUT, count)?;
    let answer = bench.call([true, false, false], elements(count))?;
    let n = count as f64;
    let sum = sum_of(input.iter().copied());
    let mean = sum.value as f64 / n;
    let variance = input.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>() / n;
    let rounding = f64::from(f32::EPSILON);
    let tolerance = bench.tolerance() + rounding;
    for (at, expected, size) in [(0, mean, sum.terms as f64 / n), (4, variance, variance)] {
        let found = answer.f32_at(at).map_or(f64::NAN, f64::from);
        let is_right = (found - expected).abs() <= tolerance * size;
        bench.judge(is_right, || format!("{found} for {expected} over {count} elements"));
    }
    Ok(())
}

fn histogram<T: Value>(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let bins = bench.random.usize(1..=32);
    let ends = [T::draw(&mut bench.random), T::draw(&mut bench.random)];
    let input = bench.draw::<T>(INPUT, count)?;
    // Ends in the wrong order are an empty range.
    let [lo, hi] = ends.map(T::whole);
    let mut counts = vec![0_i64; bins];
    for x in input.into_iter().filter(|x| (lo..hi).contains(x)) {
        counts[((x - lo) * bins as i64 / (hi - lo)) as usize] += 1;
    }
    let expected: Vec<Exact> = counts.into_iter().map(Exact::from).collect();
    let scalars = elements(count).with_u32(ends[0].to_bits()).with_u32(ends[1].to_bits()).with_u32(bins as u32);
    elementwise::<u32>(bench, [true, false, true], scalars, &expected)
}

fn top_k(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let count = bench.count();
    let k = bench.random.usize(1..=count.min(16));
    let mut ranked: Vec<_> = bench.draw::<f32>(INPUT, count)?.into_iter().zip(0_i64..).collect();
    // Stable: of equal ones the first comes first.
    ranked.sort_by_key(|(x, _)| std::cmp::Reverse(*x));
    let exact = |(x, at): &(i64, i64)| (Exact::from(*x), Exact::from(*at));
    let (values, indices): (Vec<Exact>, Vec<Exact>) = ranked[..k].iter().map(exact).unzip();
    bench.guard(2 * k)?;
    bench.call([true, false, true], elements(count).with_u32(k as u32))?;
    let written = bench.written(2 * k)?;
    bench.expect::<f32>(&written[..k], &values);
    bench.expect::<u32>(&written[k..], &indices);
    Ok(())
}

/// A side of a matrix: mostly short.
fn side(bench: &mut Bench) -> usize {
    let most = if bench.random.u8(..16) == 0 { 48 } else { 12 };
    bench.random.usize(1..=most)
}

fn matvec(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let [rows, columns] = [side(bench), side(bench)];
    let (matrix, vector) = (bench.draw::<f32>(INPUT, rows * columns)?, bench.draw::<f32>(OPERAND, columns)?);
    let product = |row: &[i64]| sum_of(row.iter().zip(&vector).map(|(x, y)| x * y));
    let expected: Vec<Exact> = matrix.chunks_exact(columns).map(product).collect();
    let scalars = Parameters::new().with_u32(rows as u32).with_u32(columns as u32);
    elementwise::<f32>(bench, [true; 3], scalars, &expected)
}

fn matmul(bench: &mut Bench, _: Option<&mut State>) -> Result<(), Error> {
    let [m, k, n] = [side(bench), side(bench), side(bench)];
    let (left, right) = (bench.draw::<f32>(INPUT, m * k)?, bench.draw::<f32>(OPERAND, k * n)?);
    let element = |at: usize| {
        let (row, column) = (at / n, at % n);
        sum_of((0..k).map(|p| left[row * k + p] * right[p * n + column]))
    };
    let expected: Vec<Exact> = (0..m * n).map(element).collect();
    let scalars = Parameters::new().with_u32(m as u32).with_u32(k as u32).with_u32(n as u32);
    elementwise::<f32>(bench, [true; 3], scalars, &expected)
}

fn window_zscore(bench: &mut Bench, state: Option<&mut State>) -> Result<(), Error> {
    let Some(State { handle, reference }) = state else {
        bench.judge(false, || "a kernel with state was called without one".to_owned());
        return Ok(());
    };
    let value = 100.0 + bench.random.f32() * 4.0;
    let answer = bench.call_on(*handle, Parameters::new().with_f32(value))?;
    let expected = reference.score(0, value);
    let found = answer.f32_at(0).unwrap_or(f32::NAN);
    bench.judge(reference::compare(found, expected).1, || format!("{found} for {expected}"));
    Ok(())
}
