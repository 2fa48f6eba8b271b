//! Renders bar charts as inline SVG.

use askama::{Template, filters::HtmlSafe};

/// The size of a chart in SVG units. The page stretches the chart to the available width.
const WIDTH: i64 = 960;
const HEIGHT: i64 = 160;

/// The size of a sparkline in pixels.
const SPARK_WIDTH: i64 = 120;
const SPARK_HEIGHT: i64 = 28;

/// The minimum height of a bar with a positive value, so that the bar stays visible.
const LEAST: i64 = 2;

/// The data of one bar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The time, such as `14:00` or `25 Nov`.
    pub label: String,
    pub value: i64,
    /// The formatted value, such as `1,204` or `1.5 TRX`.
    pub shown: String,
}

/// A bar chart, with its numbers in a collapsible table.
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(path = "web/chart.html")]
pub struct Chart {
    /// The id of the chart, unique on the page.
    pub id: &'static str,
    /// The measure and the period, such as "Calls by hour, last 24 hours".
    pub title: String,
    /// The header of the value column, such as "Calls".
    pub measure: &'static str,
    /// The largest value, formatted. `None` if all values are zero.
    pub largest: Option<String>,
    pub bars: Vec<Bar>,
    pub width: i64,
    pub height: i64,
}

impl HtmlSafe for Chart {}

/// The rectangle of a bar, with its label and its formatted value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bar {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
    pub label: String,
    pub shown: String,
}

/// A small chart without axes, for a table row.
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(path = "web/sparkline.html")]
pub struct Sparkline {
    /// The text alternative for screen readers.
    pub title: String,
    pub bars: Vec<Bar>,
    pub width: i64,
    pub height: i64,
}

impl HtmlSafe for Sparkline {}

/// Builds a chart of `steps`, oldest first. Negative values count as zero.
pub fn bar_chart(
    id: &'static str,
    title: impl Into<String>,
    measure: &'static str,
    steps: &[Step],
) -> Chart {
    let highest = steps.iter().filter(|step| step.value > 0).max_by_key(|step| step.value);
    Chart {
        id,
        title: title.into(),
        measure,
        largest: highest.map(|step| step.shown.clone()),
        bars: bars(steps, WIDTH, HEIGHT),
        width: WIDTH,
        height: HEIGHT,
    }
}

/// Builds a sparkline of the calls per hour, oldest first.
pub fn sparkline(title: impl Into<String>, calls: &[i64]) -> Sparkline {
    let step = |&value| Step { label: String::new(), value, shown: String::new() };
    let steps: Vec<Step> = calls.iter().map(step).collect();
    Sparkline {
        title: title.into(),
        bars: bars(&steps, SPARK_WIDTH, SPARK_HEIGHT),
        width: SPARK_WIDTH,
        height: SPARK_HEIGHT,
    }
}

/// Lays out bars of equal width, with gaps between them. Each height is relative to the largest
/// value.
fn bars(steps: &[Step], width: i64, height: i64) -> Vec<Bar> {
    let count = i64::try_from(steps.len()).unwrap_or(i64::MAX).max(1);
    let largest = steps.iter().map(|step| step.value).max().unwrap_or(0).max(1);
    let pitch = (width / count).max(1);
    let gap = (pitch / 5).min(8);
    steps
        .iter()
        .zip(0_i64..)
        .map(|(step, place)| {
            let tall = share(step.value, largest, height);
            Bar {
                x: place * pitch + gap / 2,
                y: height - tall,
                width: (pitch - gap).max(1),
                height: tall,
                label: step.label.clone(),
                shown: step.shown.clone(),
            }
        })
        .collect()
}

/// Scales `value` from `largest` to `height`, rounded. A positive value gets at least [`LEAST`].
fn share(value: i64, largest: i64, height: i64) -> i64 {
    if value <= 0 {
        return 0;
    }
    let (value, largest) = (i128::from(value), i128::from(largest));
    let tall = (value * i128::from(height) + largest / 2) / largest;
    i64::try_from(tall).unwrap_or(height).clamp(LEAST.min(height), height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(values: &[i64]) -> Vec<Step> {
        let step = |(hour, &value): (usize, &i64)| Step {
            label: format!("{hour:02}:00"),
            value,
            shown: value.to_string(),
        };
        values.iter().enumerate().map(step).collect()
    }

    #[test]
    fn bar_height_is_proportional_to_the_value() {
        let chart = bar_chart("calls", "Calls", "Calls", &steps(&[0, 1, 500, 1000]));
        let heights: Vec<i64> = chart.bars.iter().map(|bar| bar.height).collect();
        assert_eq!(heights, [0, LEAST, HEIGHT / 2, HEIGHT]);
        assert_eq!(chart.largest.as_deref(), Some("1000"));
        for bar in &chart.bars {
            assert_eq!(bar.y + bar.height, HEIGHT);
            assert!(bar.x >= 0 && bar.x + bar.width <= WIDTH);
        }
    }

    #[test]
    fn largest_numbers_do_not_overflow() {
        let chart =
            bar_chart("spend", "Spend", "Spent", &steps(&[i64::MAX, i64::MIN, i64::MAX / 2]));
        let heights: Vec<i64> = chart.bars.iter().map(|bar| bar.height).collect();
        assert_eq!(heights, [HEIGHT, 0, HEIGHT / 2]);
    }

    #[test]
    fn chart_without_values_shows_no_bars() {
        let chart = bar_chart("calls", "Calls", "Calls", &steps(&[0; 24]));
        assert_eq!(chart.largest, None);
        assert!(chart.bars.iter().all(|bar| bar.height == 0));
        assert!(bar_chart("none", "None", "Calls", &[]).bars.is_empty());
    }

    #[test]
    fn sparkline_of_a_day_fits_its_width() {
        let spark = sparkline("Calls by hour", &[3; 24]);
        assert_eq!(spark.bars.len(), 24);
        assert!(spark.bars.iter().all(|bar| bar.x + bar.width <= SPARK_WIDTH));
        assert!(spark.to_string().contains("Calls by hour"));
    }

    #[test]
    fn chart_shows_its_numbers_in_a_table_and_escapes_its_title() {
        let html = bar_chart("calls", "Calls <by hour>", "Calls", &steps(&[7])).to_string();
        assert!(html.contains("Calls &#60;by hour&#62;"), "{html}");
        assert!(html.contains("<td>7</td>"), "{html}");
        assert!(!html.contains("style="), "{html}");
    }
}
