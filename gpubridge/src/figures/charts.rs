//! Three charts as SVG: latency percentiles, throughput against batch depth, hit rate against footprint.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::measure::{Quantiles, in_units};

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";
/// Told apart by people who see few colours, too (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];

/// The upper end of the axis of hit rates, in percent: a point at 100 % is whole.
const TOP: f64 = 100.1;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The points of one line of a chart, by their x.
type Series = (String, Vec<(f64, f64)>);

/// What a run gives to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Charts {
    backend: String,
    latencies: Vec<(String, Quantiles)>,
    throughput: Vec<Series>,
    hit_rates: Vec<Series>,
}

/// A chart, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The name of its file.
    pub name: &'static str,
    /// The area whose figures it shows.
    pub area: super::Area,
    /// The SVG; `None` when the run measured nothing of it.
    pub svg: Option<String>,
}

impl Charts {
    pub(super) fn new(backend: &str) -> Self {
        Self { backend: backend.to_owned(), ..Self::default() }
    }

    pub(super) fn latency(&mut self, how: impl Into<String>, quantiles: Quantiles) {
        self.latencies.push((how.into(), quantiles));
    }

    pub(super) fn throughput(&mut self, series: &str, depth: usize, m_per_s: f64) {
        add(&mut self.throughput, series, (depth as f64, m_per_s));
    }

    pub(super) fn hit_rate(&mut self, series: &str, footprint: f64, percent: f64) {
        add(&mut self.hit_rates, series, (footprint, percent));
    }

    /// The three charts.
    pub fn draw(&self) -> [Chart; 3] {
        let (ring, hit_rate) = (super::Area::Ring, super::Area::HitRate);
        let chart = |name, area, is_empty: bool, draw: &dyn Fn(&Area<'_>) -> Drawn| Chart {
            name,
            area,
            svg: (!is_empty).then(|| svg(draw)),
        };
        [
            chart("latency.svg", ring, self.latencies.is_empty(), &|area| self.draw_latencies(area)),
            chart("throughput.svg", ring, self.throughput.is_empty(), &|area| self.draw_throughput(area)),
            chart("hit-rate.svg", hit_rate, self.hit_rates.is_empty(), &|area| self.draw_hit_rates(area)),
        ]
    }

    /// Bars on a logarithmic axis: three for each way to call.
    fn draw_latencies(&self, area: &Area<'_>) -> Drawn {
        const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];
        let quantiles = |q: &Quantiles| [q.p50, q.p99, q.p999];
        let all = || self.latencies.iter().flat_map(|(_, q)| quantiles(q));
        let (low, high) = decades(all());
        let mut chart = ChartBuilder::on(area)
            .caption(format!("Latency of a grain's call, backend {}", self.backend), (FONT, 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(0.0..self.latencies.len() as f64, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_desc("latency, submit to answer seen (logarithmic)")
            .axis_desc_style((FONT, 15))
            .y_label_style((FONT, 14))
            .y_label_formatter(&|ns| in_units(*ns))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        for (place, name) in NAMES.iter().enumerate() {
            let bars = self.latencies.iter().enumerate().map(|(at, (_, q))| {
                let left = at as f64 + 0.14 + 0.24 * place as f64;
                Rectangle::new([(left, low), (left + 0.22, quantiles(q)[place])], COLOURS[place].filled())
            });
            chart.draw_series(bars)?.label(*name).legend(move |at| square(at, place));
        }
        let centred = |size: u32| (FONT, size).into_text_style(area).pos(Pos::new(HPos::Center, VPos::Top));
        for (at, (how, q)) in self.latencies.iter().enumerate() {
            let middle = chart.backend_coord(&(at as f64 + 0.5, low));
            area.draw(&Text::new(how.as_str(), (middle.0, middle.1 + 14), centred(15)))?;
            for (place, ns) in quantiles(q).into_iter().enumerate() {
                let top = chart.backend_coord(&(at as f64 + 0.25 + 0.24 * place as f64, ns));
                area.draw(&Text::new(in_units(ns), (top.0, top.1 - 16), centred(13)))?;
            }
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    }

    fn draw_throughput(&self, area: &Area<'_>) -> Drawn {
        let deepest = self.points(&self.throughput).map(|point| point.0).fold(2.0, f64::max);
        let fastest = self.points(&self.throughput).map(|point| point.1).fold(1.0, f64::max);
        let caption = format!("Throughput against batch depth, backend {}", self.backend);
        let mut chart = ChartBuilder::on(area)
            .caption(caption, (FONT, 22))
            .margin(16)
            .x_label_area_size(56)
            .y_label_area_size(76)
            .build_cartesian_2d((1.0..deepest * 1.1).log_scale().base(2.0), 0.0..fastest * 1.1)?;
        chart
            .configure_mesh()
            .x_desc("calls in flight (logarithmic)")
            .y_desc("checked answers, millions per second")
            .axis_desc_style((FONT, 15))
            .label_style((FONT, 14))
            .x_label_formatter(&|depth| format!("{depth:.0}"))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        draw_lines(&mut chart, &self.throughput)?;
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    }

    fn draw_hit_rates(&self, area: &Area<'_>) -> Drawn {
        let least = self.points(&self.hit_rates).map(|point| point.1).fold(99.0, f64::min);
        let most = self.points(&self.hit_rates).map(|point| point.0).fold(1.6, f64::max);
        let low = (least - 0.1).max(0.0);
        let mut chart = ChartBuilder::on(area)
            .caption("Allocations served without the driver, by trace and budget", (FONT, 22))
            .margin(16)
            .x_label_area_size(56)
            .y_label_area_size(84)
            .build_cartesian_2d(1.0..most * 1.02, low..TOP)?;
        chart
            .configure_mesh()
            .x_desc("footprint: peak reserved bytes / peak live bytes")
            .y_desc("hit rate, %")
            .axis_desc_style((FONT, 15))
            .label_style((FONT, 14))
            .x_label_formatter(&|footprint| format!("{footprint:.1} ×"))
            .y_label_formatter(&|percent| format!("{percent:.1}"))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        // The axis names round numbers below its end, and where rounding wills it not this one.
        let whole = chart.backend_coord(&(1.0, 100.0));
        let style = (FONT, 14).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new("100.0", (whole.0 - 10, whole.1), style))?;
        chart.draw_series([PathElement::new(vec![(1.0, 100.0), (most * 1.02, 100.0)], BLACK.mix(0.2))])?;
        let target = ShapeStyle::from(BLACK.mix(0.4)).stroke_width(1);
        let bars = [vec![(1.0, 99.0), (1.5, 99.0)], vec![(1.5, 99.0), (1.5, TOP)]];
        chart
            .draw_series(bars.into_iter().map(|line| PathElement::new(line, target)))?
            .label("target: ≥ 99 % at ≤ 1.5 ×")
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], target));
        draw_lines(&mut chart, &self.hit_rates)?;
        legend(&mut chart, SeriesLabelPosition::LowerRight)
    }

    fn points<'a>(&self, all: &'a [Series]) -> impl Iterator<Item = &'a (f64, f64)> {
        all.iter().flat_map(|(_, points)| points)
    }
}

/// The powers of ten around these numbers, with room above for their labels.
fn decades(numbers: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let least = numbers.clone().fold(f64::INFINITY, f64::min).max(1.0);
    let most = numbers.fold(10.0, f64::max) * 2.0;
    (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()))
}

fn add(all: &mut Vec<Series>, name: &str, point: (f64, f64)) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, points)) => points.push(point),
        None => all.push((name.to_owned(), vec![point])),
    }
}

/// A picture of its own.
fn svg(draw: &dyn Fn(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
    drawn.expect("a String takes any picture");
    drop(area);
    text
}

type Context<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn draw_lines<X, Y>(chart: &mut Context<'_, '_, X, Y>, all: &[Series]) -> Drawn
where
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    for (place, (name, points)) in all.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let line = LineSeries::new(points.iter().copied(), ShapeStyle::from(colour).stroke_width(2));
        chart.draw_series(line)?.label(name).legend(move |at| square(at, place));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    Ok(())
}

fn square((x, y): (i32, i32), place: usize) -> Rectangle<(i32, i32)> {
    Rectangle::new([(x + 2, y - 5), (x + 12, y + 5)], COLOURS[place % COLOURS.len()].filled())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Context<'a, 'b, X, Y>, position: SeriesLabelPosition) -> Drawn
where
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 14))
        .draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_powers_of_ten() {
        assert_eq!(decades([150.0, 800.0].into_iter()), (100.0, 10_000.0));
    }

    #[test]
    fn a_chart_without_points_is_not_drawn() {
        let mut charts = Charts::new("cpu");
        assert!(charts.draw().iter().all(|chart| chart.svg.is_none()));
        charts.throughput("a", 1, 2.0);
        let drawn = charts.draw().map(|chart| (chart.name, chart.svg.is_some()));
        assert_eq!(drawn, [("latency.svg", false), ("throughput.svg", true), ("hit-rate.svg", false)]);
    }
}
