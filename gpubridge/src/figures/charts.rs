//! Three charts as SVG: latency percentiles in a closed and in open loops, throughput against batch depth, hit rate against
//! footprint.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::line::{Measured, OpenLoop};
use super::measure::{Quantiles, in_units};
use super::pace::SHARES;

const SIZE: (u32, u32) = (960, 540);
/// Of the chart of latencies: its width, and the heights of a row and of what is around the rows.
const ROWS_SIZE: (u32, u32, u32) = (1200, 34, 150);
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

/// A figure with its latencies, in a closed loop and at each share of the peak.
type Row = (String, [Option<Quantiles>; 1 + SHARES.len()]);

/// What a run gives to draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Charts {
    backend: String,
    latencies: Vec<Row>,
    throughput: Vec<Series>,
    hit_rates: Vec<Series>,
}

/// A chart, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The name of its file.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The SVG; `None` when the run measured nothing of it.
    pub svg: Option<String>,
}

impl Charts {
    pub(super) fn new(backend: &str) -> Self {
        Self { backend: backend.to_owned(), ..Self::default() }
    }

    /// A line that has latencies, in whichever loop.
    pub(super) fn latency(&mut self, figure: &str, measured: &Measured, open_loop: Option<&OpenLoop>) {
        let closed = if let Measured::Latency(quantiles) = measured { Some(*quantiles) } else { None };
        let [half, most] = match open_loop {
            Some(OpenLoop::Offered { open_loop }) => open_loop.map(|offered| Some(offered.quantiles)),
            _ => [None; SHARES.len()],
        };
        let loops = [closed, half, most];
        if loops.iter().any(Option::is_some) {
            self.latencies.push((figure.to_owned(), loops));
        }
    }

    pub(super) fn throughput(&mut self, series: &str, depth: usize, m_per_s: f64) {
        add(&mut self.throughput, series, (depth as f64, m_per_s));
    }

    pub(super) fn hit_rate(&mut self, series: &str, footprint: f64, percent: f64) {
        add(&mut self.hit_rates, series, (footprint, percent));
    }

    /// The three charts.
    pub fn draw(&self) -> [Chart; 3] {
        let chart = |name, shows, is_empty: bool, size, draw: &dyn Fn(&Area<'_>) -> Drawn| Chart {
            name,
            shows,
            svg: (!is_empty).then(|| svg(size, draw)),
        };
        let (width, row, around) = ROWS_SIZE;
        let latencies = (width, around + row * self.latencies.len() as u32);
        let (is_latency, is_throughput) = (!self.latencies.is_empty(), !self.throughput.is_empty());
        [
            chart("latency.svg", "latencies", !is_latency, latencies, &|area| self.draw_latencies(area)),
            chart("throughput.svg", "pipelined calls", !is_throughput, SIZE, &|area| self.draw_throughput(area)),
            chart("hit-rate.svg", "hit rates", self.hit_rates.is_empty(), SIZE, &|area| self.draw_hit_rates(area)),
        ]
    }

    /// A row for each figure on a logarithmic axis, in it a line for each loop.
    fn draw_latencies(&self, area: &Area<'_>) -> Drawn {
        let all = || self.latencies.iter().flat_map(|(_, loops)| loops.iter().flatten());
        let (low, high) = decades(all().flat_map(|q| [q.p50, q.p999]));
        let rows = self.latencies.len() as f64;
        let caption = format!("Latencies, backend {}: dot p50, bar p99, end p99.9", self.backend);
        let mut chart = ChartBuilder::on(area)
            .caption(caption, (FONT, 22))
            .margin(16)
            .margin_right(40)
            .x_label_area_size(56)
            .y_label_area_size(400)
            .build_cartesian_2d((low..high).log_scale(), rows..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc("latency, in open loops from the intended start (logarithmic)")
            .axis_desc_style((FONT, 15))
            .x_label_style((FONT, 14))
            .x_label_formatter(&|ns| in_units(*ns))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        let between = (1..self.latencies.len()).map(|at| vec![(low, at as f64), (high, at as f64)]);
        chart.draw_series(between.map(|line| PathElement::new(line, BLACK.mix(0.1))))?;
        for (place, name) in loop_names().into_iter().enumerate() {
            let (colour, style) = (COLOURS[place], ShapeStyle::from(COLOURS[place]).stroke_width(2));
            let of = |(at, (_, loops)): (usize, &Row)| Some((at as f64 + 0.25 * (1 + place) as f64, loops[place]?));
            let points: Vec<_> = self.latencies.iter().enumerate().filter_map(of).collect();
            let lines = points.iter().map(|&(y, q)| PathElement::new(vec![(q.p50, y), (q.p999, y)], style));
            chart.draw_series(lines)?.label(name).legend(move |at| square(at, place));
            let bar = |&(y, q): &(f64, Quantiles)| PathElement::new(vec![(q.p99, y - 0.1), (q.p99, y + 0.1)], style);
            chart.draw_series(points.iter().map(bar))?;
            chart.draw_series(points.iter().map(|&(y, q)| Circle::new((q.p50, y), 4, colour.filled())))?;
        }
        let style = (FONT, 13).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        for (at, (figure, _)) in self.latencies.iter().enumerate() {
            let middle = chart.backend_coord(&(low, at as f64 + 0.5));
            area.draw(&Text::new(figure.as_str(), (middle.0 - 10, middle.1), style.clone()))?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)
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

/// The loops of a row.
fn loop_names() -> [String; 1 + SHARES.len()] {
    let [half, most] = SHARES.map(|share| format!("open loop, {share} % of the peak"));
    ["closed loop".to_owned(), half, most]
}

/// A picture of its own.
fn svg(size: (u32, u32), draw: &dyn Fn(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
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
