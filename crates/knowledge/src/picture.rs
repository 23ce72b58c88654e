//! What the knowledge base asks of a reader of pictures (OCR): pixels in, lines of text with their place out.
//!
//! The reader itself lives elsewhere and is handed in; without one, scanned pages and picture files are skipped
//! and named. The order of the lines doesn't matter: the readers of documents put them into reading order.

/// A picture with its rows from top to bottom, three bytes (red, green, blue) a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({} x {})", self.width, self.height)
    }
}

/// One line of text that was found in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureLine {
    pub text: String,
    /// How sure the reader is, from 0 to 1.
    pub score: f32,
    /// The corners as (x, y) in pixels from the top left: top left, top right, bottom right, bottom left of the text.
    pub quad: [[f32; 2]; 4],
}

/// Finds the text in pictures. An error is a reason for people; it never stops the other files.
pub trait PictureReader: Send + Sync {
    fn read(&self, picture: &Picture) -> Result<Vec<PictureLine>, String>;
}
