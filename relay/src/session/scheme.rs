//! How a URL says that a stream is carried. It never says where to.

/// How a stream is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By TCP.
    Rtmp,
    /// Inside TLS.
    Rtmps,
    /// Inside HTTP.
    Rtmpt,
    /// Inside HTTP, and that inside TLS.
    Rtmpts,
    /// FLV in the answer to a request of HTTP.
    Http,
    /// The same inside TLS.
    Https,
    /// FLV in the frames of a WebSocket.
    Ws,
    /// The same inside TLS.
    Wss,
}

impl Scheme {
    /// Whether it begins with TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Rtmps | Self::Rtmpts | Self::Https | Self::Wss)
    }

    /// Whether RTMP goes inside HTTP requests.
    #[must_use]
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::Rtmpt | Self::Rtmpts)
    }

    /// Whether it carries FLV, which can only be played.
    #[must_use]
    pub fn is_flv(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Ws | Self::Wss)
    }

    /// Whether it begins with the opening of a WebSocket, inside its TLS if it has any.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// The scheme that is written so, whatever its case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.name()))
    }

    const ALL: [Self; 8] = [
        Self::Rtmp,
        Self::Rtmps,
        Self::Rtmpt,
        Self::Rtmpts,
        Self::Http,
        Self::Https,
        Self::Ws,
        Self::Wss,
    ];

    /// As it is written in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::Rtmpt => "rtmpt",
            Self::Rtmpts => "rtmpts",
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port that clients take when a URL names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Rtmp => 1935,
            Self::Rtmpt | Self::Http | Self::Ws => 80,
            Self::Rtmps | Self::Rtmpts | Self::Https | Self::Wss => 443,
        }
    }
}
