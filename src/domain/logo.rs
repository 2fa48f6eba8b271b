//! Logos of platforms. The first bytes of a file determine its format. File names and headers are
//! ignored.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{id::TenantId, text_enum::text_enum};

/// Maximum size of a logo in bytes.
pub const MAX_LOGO_BYTES: usize = 32 * 1024;

/// Maximum length of a logo in base64, with padding.
const MAX_BASE64_LENGTH: usize = MAX_LOGO_BYTES.div_ceil(3) * 4;

// The dashboard shows only these formats. SVG is not allowed, because an SVG file may contain
// scripts.
text_enum! {
    /// The media type of a logo.
    pub enum LogoMediaType {
        /// A PNG file.
        Png = "image/png",
        /// A JPEG file.
        Jpeg = "image/jpeg",
        /// A WebP file.
        Webp = "image/webp",
    }
}

impl LogoMediaType {
    /// Determines the media type from the first bytes. `None` if the file has none of these
    /// formats.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', _, ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, _, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', _, ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

/// SHA-256 of a logo. The logo's path contains this hash, so a browser may cache a logo forever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogoHash([u8; 32]);

/// The text is not a [`LogoHash`], which consists of 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed hash of a logo")]
pub struct MalformedLogoHash;

impl LogoHash {
    /// Restores a stored hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes 64 hexadecimal digits.
impl fmt::Display for LogoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for LogoHash {
    type Err = MalformedLogoHash;

    fn from_str(text: &str) -> Result<Self, MalformedLogoHash> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return Err(MalformedLogoHash);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * index..2 * index + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| MalformedLogoHash)?;
        }
        Ok(Self(bytes))
    }
}

/// A reference to a logo, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoRef {
    /// SHA-256 of the file.
    pub hash: LogoHash,
    /// The format, which the first bytes of the file determine.
    pub media_type: LogoMediaType,
}

impl LogoRef {
    /// Returns the path of the logo in the dashboard.
    #[must_use]
    pub fn path(&self, tenant: TenantId) -> String {
        format!("/dashboard/logo/{tenant}/{}", self.hash)
    }
}

/// A logo of at most 32 KiB that begins with the signature of a PNG, JPEG or WebP file.
#[derive(Clone, PartialEq, Eq)]
pub struct Logo {
    bytes: Vec<u8>,
    media_type: LogoMediaType,
}

/// The reason why a file is refused as a logo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogoError {
    /// The text is not padded base64 in the standard alphabet.
    #[error("must be a file in padded base64")]
    Base64,
    /// The file is larger than [`MAX_LOGO_BYTES`].
    #[error("must have at most 32768 bytes")]
    Size,
    /// The file does not begin with the signature of a PNG, JPEG or WebP file.
    #[error("must be a PNG, a JPEG or a WebP file")]
    Type,
}

impl Logo {
    /// Checks the size and the first bytes of a file. The rest of the file is not decoded.
    ///
    /// # Errors
    ///
    /// [`LogoError::Size`] if the file is larger than [`MAX_LOGO_BYTES`], and [`LogoError::Type`]
    /// if it is not a PNG, JPEG or WebP file.
    pub fn new(bytes: Vec<u8>) -> Result<Self, LogoError> {
        if bytes.len() > MAX_LOGO_BYTES {
            return Err(LogoError::Size);
        }
        let media_type = LogoMediaType::of(&bytes).ok_or(LogoError::Type)?;
        Ok(Self { bytes, media_type })
    }

    /// Decodes a file from padded base64 and checks it as [`Self::new`] does.
    ///
    /// # Errors
    ///
    /// [`LogoError::Base64`] if the text is not base64, [`LogoError::Size`] if the file is larger
    /// than [`MAX_LOGO_BYTES`], and [`LogoError::Type`] if it is not a PNG, JPEG or WebP file.
    pub fn from_base64(text: &str) -> Result<Self, LogoError> {
        // This check limits the work of the decoder.
        if text.len() > MAX_BASE64_LENGTH {
            return Err(LogoError::Size);
        }
        STANDARD.decode(text).map_err(|_| LogoError::Base64).and_then(Self::new)
    }

    /// Returns the bytes of the file, at most [`MAX_LOGO_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of the file without copying them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the format, which the first bytes of the file determine.
    #[must_use]
    pub fn media_type(&self) -> LogoMediaType {
        self.media_type
    }

    /// Returns the hash and the format of the file. Each call hashes the whole file.
    #[must_use]
    pub fn to_ref(&self) -> LogoRef {
        let hash = LogoHash(Sha256::digest(&self.bytes).into());
        LogoRef { hash, media_type: self.media_type }
    }
}

super::schema::named!(
    Logo,
    "Logo",
    super::schema::string("A PNG, JPEG or WebP file of at most 32 KiB, in base64.")
        .max_length(Some(MAX_BASE64_LENGTH))
);

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logo({}, {} bytes)", self.media_type(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0";

    #[test]
    fn first_bytes_determine_the_type_of_a_logo() {
        for (bytes, media_type) in [
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF".as_slice(), "image/jpeg"),
            (b"RIFF\x24\0\0\0WEBPVP8 ".as_slice(), "image/webp"),
        ] {
            let logo = Logo::new(bytes.to_vec()).expect(media_type);
            assert_eq!(logo.media_type().as_str(), media_type);
            assert_eq!(logo.to_ref().media_type, logo.media_type());
            assert_eq!(Logo::from_base64(&STANDARD.encode(bytes)), Ok(logo));
        }
        for bytes in [
            b"".as_slice(),
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            b"GIF89a..........",
            b"\x89PNG\r\n\x1a",
            b"RIFF\x24\0\0\0WAVEfmt ",
            b"<html>\x89PNG\r\n\x1a\n",
        ] {
            assert_eq!(Logo::new(bytes.to_vec()), Err(LogoError::Type), "{bytes:?}");
        }
    }

    #[test]
    fn logo_that_is_too_large_is_refused() {
        let mut bytes = PNG.to_vec();
        bytes.resize(MAX_LOGO_BYTES, 0);
        let logo = Logo::from_base64(&STANDARD.encode(&bytes)).expect("a logo of the largest size");
        assert_eq!(logo.bytes().len(), MAX_LOGO_BYTES);
        bytes.push(0);
        assert_eq!(Logo::from_base64(&STANDARD.encode(&bytes)), Err(LogoError::Size));
        assert_eq!(Logo::from_base64(&"A".repeat(1 << 20)), Err(LogoError::Size));
        assert_eq!(Logo::from_base64("data:image/png;base64,iVBORw0K"), Err(LogoError::Base64));
    }

    #[test]
    fn hash_survives_a_round_trip_through_its_text() {
        let hash = Logo::new(PNG.to_vec()).expect("a logo").to_ref().hash;
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let upper = hash.to_string().to_uppercase();
        for text in ["", "ab", &upper, &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(text.parse::<LogoHash>(), Err(MalformedLogoHash), "{text:?}");
        }
    }
}
