//! The report as markdown, and its place in a page that is written by hand otherwise.

use std::fmt::Write as _;

use super::pace::SHARES;
use super::{Area, Line, OpenLoop, Report};

/// The line of a page behind which a report begins.
pub const BEGIN: &str = "<!-- gpubridge bench: begin -->";
/// The line of a page before which a report ends.
pub const END: &str = "<!-- gpubridge bench: end -->";

/// The page has no place for a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has no line `{0}`: a report stands between a line `{BEGIN}` and a line `{END}` below it")]
pub struct MissingMarker(&'static str);

impl Report {
    /// The conditions and a table for each area.
    pub fn to_markdown(&self) -> String {
        let mut text = self.conditions.to_string();
        for area in Area::ALL {
            let mut lines = self.lines.iter().filter(|line| line.area == area).peekable();
            if lines.peek().is_some() {
                let open = SHARES.map(|share| format!("open loop at {share} %")).join(" | ");
                let heads = format!(
                    "| figure | target | measured | {open} | reached | conditions |\n|---|---|---|---|---|---|---|"
                );
                write!(text, "\n### {}\n\n{heads}\n", area.name()).expect("a String takes any text");
                lines.for_each(|line| text.push_str(&row(line)));
            }
        }
        text
    }
}

fn row(line: &Line) -> String {
    let Line { figure, target, measured, open_loop, reached, not_judged, conditions, .. } = line;
    let target = target.as_deref().unwrap_or_default();
    let reached = match reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => not_judged.map_or("", |_| "not judged"),
    };
    let [half, most] = match open_loop {
        Some(OpenLoop::Offered { open_loop }) => open_loop.map(|offered| offered.to_string()),
        Some(OpenLoop::None { no_open_loop }) => [format!("none: {no_open_loop}"), "none".to_owned()],
        None => Default::default(),
    };
    // A reason may come from anywhere: a line of a table is one line, and a bar would end its cell.
    let measured = measured.to_string().replace('|', "\\|").replace('\n', " ");
    format!("| {figure} | {target} | {measured} | {half} | {most} | {reached} | {conditions} |\n")
}

/// `page` with `report` in place of what stands between its two markers.
///
/// # Errors
/// The marker that the page does not have, each on a line of its own and in order.
pub fn between_markers(page: &str, report: &str) -> Result<String, MissingMarker> {
    let line_end = |from: usize, marker: &'static str| {
        let mut at = from;
        for line in page[from..].split_inclusive('\n') {
            let start = at;
            at += line.len();
            if line.trim_end() == marker {
                return Ok((start, at));
            }
        }
        Err(MissingMarker(marker))
    };
    let (_, begin) = line_end(0, BEGIN)?;
    let (end, _) = line_end(begin, END)?;
    Ok(format!("{}\n{}\n\n{}", &page[..begin], report.trim_end(), &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_markers_is_replaced_and_nothing_else() {
        let page = format!("# Page\n\n{BEGIN}\nold\nolder\n{END}\n\nmore\n");
        let once = between_markers(&page, "new\n").unwrap();
        assert_eq!(once, format!("# Page\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore\n"));
        assert_eq!(between_markers(&once, "new\n").unwrap(), once, "the same again changes nothing");
        let empty = format!("{BEGIN}\r\n{END}");
        assert_eq!(between_markers(&empty, "new").unwrap(), format!("{BEGIN}\r\n\nnew\n\n{END}"));
    }

    #[test]
    fn the_page_of_the_project_has_its_place() {
        let page = include_str!("../../../docs/benchmarks.md");
        assert!(between_markers(page, "new").unwrap().contains("\n\nnew\n\n"));
    }

    #[test]
    fn a_marker_that_is_missing_is_named() {
        let of = |page: &str| between_markers(page, "new").unwrap_err();
        assert_eq!(of("no place"), MissingMarker(BEGIN));
        assert_eq!(of(&format!("text {BEGIN}\n{END}\n")), MissingMarker(BEGIN));
        assert_eq!(of(&format!("{BEGIN}\n")), MissingMarker(END));
        let turned = of(&format!("{END}\n{BEGIN}\n"));
        assert_eq!(turned, MissingMarker(END));
        assert!(turned.to_string().contains(BEGIN) && turned.to_string().contains(END), "{turned}");
    }
}
