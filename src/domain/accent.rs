//! The accent colour of a platform, and the readable shades that the pages derive from it.
//!
//! Contrast is defined as in WCAG 2.2: <https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio>.

use std::fmt;

/// Minimum contrast that WCAG 2.2 AA requires for text.
const LEAST_CONTRAST: f64 = 4.5;

/// The darkest surface of the light pages. Text that is readable on this surface is readable on all
/// other surfaces of these pages. The style sheet of the dashboard must not use a darker one.
pub const LIGHT_SURFACE: Rgb = Rgb([0xee, 0xf1, 0xf5]);

/// The lightest surface of the dark pages, the counterpart of [`LIGHT_SURFACE`].
pub const DARK_SURFACE: Rgb = Rgb([0x26, 0x2c, 0x36]);

const WHITE: Rgb = Rgb([0xff; 3]);
const BLACK: Rgb = Rgb([0; 3]);

/// Number of steps from a colour to black or white. The search for a shade tries each step.
const STEPS: u16 = 64;

/// An sRGB colour: its red, green and blue channels, from 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rgb(pub [u8; 3]);

impl Rgb {
    /// Computes the contrast ratio of the two colours, from 1 to 21. Their order does not matter.
    #[must_use]
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|channel| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Mixes this colour with another one. The share of the other colour is `step` / [`STEPS`].
    fn toward(self, other: Self, step: u16) -> Self {
        let mut mixed = self.0;
        for (channel, goal) in mixed.iter_mut().zip(other.0) {
            let sum = u16::from(*channel) * (STEPS - step) + u16::from(goal) * step;
            *channel = u8::try_from(sum / STEPS).expect("between two bytes");
        }
        Self(mixed)
    }

    /// Finds the shade nearest to this colour that is readable on a surface. The search moves from
    /// this colour toward `end`.
    fn readable_on(self, surface: Self, end: Self) -> Self {
        (0..STEPS)
            .map(|step| self.toward(end, step))
            .find(|shade| shade.contrast(surface) >= LEAST_CONTRAST)
            .unwrap_or(end)
    }
}

/// Writes `#` and six hexadecimal digits in lower case.
impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// The colour that a platform chose for its dashboard. Any sRGB colour is allowed, because the
/// pages show the readable shades of its [`Palette`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AccentColor(Rgb);

/// The text is not a colour in hexadecimal. Its length is wrong, it contains a character that is
/// not a hexadecimal digit, or it lacks a required `#`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a colour written as # and six hexadecimal digits, such as \"#0f62fe\"")]
pub struct AccentColorError;

/// Readable shades of an [`AccentColor`]. Text has a contrast of at least 4.5:1 to its background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Palette {
    /// The shades for pages in light mode.
    pub light: Shades,
    /// The shades for pages in dark mode.
    pub dark: Shades,
}

/// The shades of a [`Palette`] for one mode of the pages, light or dark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shades {
    /// Background of prominent elements, such as a button: the chosen colour itself.
    pub accent: Rgb,
    /// Text on [`Self::accent`]: white or black.
    pub accent_text: Rgb,
    /// Text in the chosen colour on the background of the page.
    pub accent_ink: Rgb,
}

impl AccentColor {
    /// Parses `#rrggbb`, in upper or lower case.
    ///
    /// # Errors
    ///
    /// [`AccentColorError`] if the text is not `#` and six hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, AccentColorError> {
        text.strip_prefix('#').ok_or(AccentColorError).and_then(Self::from_digits)
    }

    /// Parses `rrggbb`, in upper or lower case.
    ///
    /// # Errors
    ///
    /// [`AccentColorError`] if the text is not six hexadecimal digits.
    pub fn from_digits(digits: &str) -> Result<Self, AccentColorError> {
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AccentColorError);
        }
        let number = u32::from_str_radix(digits, 16).map_err(|_| AccentColorError)?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Self(Rgb([red, green, blue])))
    }

    /// Returns `rrggbb`, for a path.
    #[must_use]
    pub fn digits(self) -> String {
        self.0.to_string().split_off(1)
    }

    /// Derives the shades in which the pages show this colour, in light and in dark mode.
    ///
    /// Where the colour itself is not readable as text, `accent_ink` is the nearest darker shade
    /// in light mode and the nearest lighter shade in dark mode.
    #[must_use]
    pub fn palette(self) -> Palette {
        // Either black or white is always readable, because no colour is close to both.
        let readable_white = self.0.contrast(WHITE) >= LEAST_CONTRAST;
        let accent_text = if readable_white { WHITE } else { BLACK };
        let shades = |surface, end| Shades {
            accent: self.0,
            accent_text,
            accent_ink: self.0.readable_on(surface, end),
        };
        Palette { light: shades(LIGHT_SURFACE, BLACK), dark: shades(DARK_SURFACE, WHITE) }
    }
}

impl fmt::Display for AccentColor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl serde::Serialize for AccentColor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

super::schema::named!(
    AccentColor,
    "AccentColor",
    super::schema::string("`#` and six hexadecimal digits.")
        .pattern(Some("^#[0-9A-Fa-f]{6}$"))
        .examples(["#0f62fe"])
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_follows_wcag() {
        let contrast = |a: Rgb, b: Rgb| (a.contrast(b) * 100.0).round() / 100.0;
        for (a, b, expected) in [
            (BLACK, WHITE, 21.0),
            (WHITE, WHITE, 1.0),
            (Rgb([0x76; 3]), WHITE, 4.54),
            (Rgb([0x77; 3]), WHITE, 4.48),
            (Rgb([0xff, 0, 0]), WHITE, 4.0),
            (Rgb([0, 0, 0xff]), WHITE, 8.59),
        ] {
            assert!((contrast(a, b) - expected).abs() < 0.001, "{a} {b}: {}", contrast(a, b));
            assert!((contrast(b, a) - expected).abs() < 0.001, "{b} {a}");
        }
    }

    #[test]
    fn every_palette_has_readable_contrast() {
        let grid = (0..=255_u8).step_by(15);
        for red in grid.clone() {
            for green in grid.clone() {
                for blue in grid.clone() {
                    let color = AccentColor(Rgb([red, green, blue]));
                    let palette = color.palette();
                    for (shades, surface, end) in
                        [(palette.light, LIGHT_SURFACE, WHITE), (palette.dark, DARK_SURFACE, BLACK)]
                    {
                        assert_eq!(shades.accent, color.0);
                        for (text, ground) in [
                            (shades.accent_text, shades.accent),
                            (shades.accent_ink, surface),
                            (shades.accent_ink, end),
                        ] {
                            let contrast = text.contrast(ground);
                            assert!(contrast >= 4.5, "{color}: {text} on {ground}: {contrast}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn readable_colour_is_used_for_text_unchanged() {
        let palette = AccentColor::parse("#0B3D91").expect("a colour").palette();
        assert_eq!(palette.light.accent_ink.to_string(), "#0b3d91");
        assert_eq!(palette.light.accent_text, WHITE);
        assert_ne!(palette.dark.accent_ink, palette.light.accent_ink);
    }

    #[test]
    fn colours_are_six_hexadecimal_digits() {
        let color = AccentColor::parse("#0F62fe").expect("a colour");
        assert_eq!((color.to_string(), color.digits()), ("#0f62fe".into(), "0f62fe".into()));
        assert_eq!(AccentColor::from_digits("0f62FE"), Ok(color));
        for text in
            ["", "#", "0f62fe", "#0f6", "#0f62fe0", "#0f62fg", "#+f62fe", "red", "#0f62f\u{e9}"]
        {
            assert_eq!(AccentColor::parse(text), Err(AccentColorError), "{text:?}");
        }
    }
}
