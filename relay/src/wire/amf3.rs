//! AMF3, as far as it occurs inside AMF0 values (marker 11): Action Message Format AMF 3, section
//! 3.
//!
//! Only a reader: every answer is in AMF0. References to strings and traits are resolved, because
//! names are made of them, and draw on the message's [`Budget`]; references to objects read as
//! nothing. The three tables live as long as one value that AMF0 introduces.

use super::amf::{AmfError, Budget, Input, Properties, Value};

mod marker {
    pub(super) const UNDEFINED: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    pub(super) const INTEGER: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const STRING: u8 = 0x06;
    pub(super) const XML_DOCUMENT: u8 = 0x07;
    pub(super) const DATE: u8 = 0x08;
    pub(super) const ARRAY: u8 = 0x09;
    pub(super) const OBJECT: u8 = 0x0a;
    pub(super) const XML: u8 = 0x0b;
    pub(super) const BYTE_ARRAY: u8 = 0x0c;
    pub(super) const VECTOR_INT: u8 = 0x0d;
    pub(super) const VECTOR_UINT: u8 = 0x0e;
    pub(super) const VECTOR_DOUBLE: u8 = 0x0f;
    pub(super) const VECTOR_OBJECT: u8 = 0x10;
    pub(super) const DICTIONARY: u8 = 0x11;
}

/// Reads one AMF3 value from the input of an AMF0 reader.
#[derive(Debug)]
pub struct Amf3Reader<'r, 'a> {
    input: &'r mut Input<'a>,
    budget: &'r mut Budget,
    strings: Vec<&'a [u8]>,
    traits: Vec<Traits<'a>>,
    objects: usize,
}

#[derive(Clone, Debug)]
struct Traits<'a> {
    class: &'a [u8],
    dynamic: bool,
    sealed: Vec<&'a [u8]>,
}

impl Traits<'_> {
    /// Bytes of all its names.
    fn bytes(&self) -> usize {
        self.class.len() + self.sealed.iter().map(|name| name.len()).sum::<usize>()
    }
}

/// What a length field with a reference bit says.
enum Head {
    /// An object seen before.
    Reference,
    /// A new one, with this count or length.
    New(usize),
}

impl<'r, 'a> Amf3Reader<'r, 'a> {
    /// A reader with empty tables.
    pub fn new(input: &'r mut Input<'a>, budget: &'r mut Budget) -> Self {
        Self { input, budget, strings: Vec::new(), traits: Vec::new(), objects: 0 }
    }

    /// Reads one value.
    ///
    /// # Errors
    /// When the message ends inside the value, the value is of no known or readable kind, a
    /// reference points to nothing, or a limit is passed.
    pub fn read(&mut self) -> Result<Value<'a>, AmfError> {
        self.budget.value()?;
        match self.input.byte()? {
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::NULL => Ok(Value::Null),
            marker::FALSE => Ok(Value::Boolean(false)),
            marker::TRUE => Ok(Value::Boolean(true)),
            marker::INTEGER => self.integer(),
            marker::DOUBLE => self.input.double().map(Value::Number),
            marker::STRING => self.string().map(Value::String),
            marker::XML_DOCUMENT | marker::XML => self.bytes(Value::Xml),
            marker::BYTE_ARRAY => self.bytes(Value::Bytes),
            marker::DATE => match self.object_head()? {
                Head::Reference => Ok(Value::Reference),
                Head::New(_) => self.input.double().map(Value::Date),
            },
            marker::ARRAY => self.nested(Self::array),
            marker::OBJECT => self.nested(Self::object),
            marker::VECTOR_INT => self.vector(|bytes| f64::from(i32::from_be_bytes(bytes))),
            marker::VECTOR_UINT => self.vector(|bytes| f64::from(u32::from_be_bytes(bytes))),
            marker::VECTOR_DOUBLE => self.vector(f64::from_be_bytes),
            marker::VECTOR_OBJECT => self.nested(Self::vector_object),
            marker::DICTIONARY => self.nested(Self::dictionary),
            unknown => Err(AmfError::Marker(unknown)),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value<'a>, AmfError>,
    ) -> Result<Value<'a>, AmfError> {
        self.budget.enter()?;
        let value = read(self)?;
        self.budget.leave();
        Ok(value)
    }

    /// An unsigned 29-bit integer: 7 bits each from up to three bytes, 8 bits from a fourth.
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut value = 0u32;
        for _ in 0..3 {
            let byte = self.input.byte()?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let last = self.input.byte()?;
        Ok(value << 8 | u32::from(last))
    }

    fn integer(&mut self) -> Result<Value<'a>, AmfError> {
        // Bit 28 is the sign.
        let unsigned = self.u29()?;
        let signed = (unsigned << 3).cast_signed() >> 3;
        Ok(Value::Number(f64::from(signed)))
    }

    /// The field before anything that may be a reference: its low bit says so.
    fn head(&mut self) -> Result<(bool, usize), AmfError> {
        let field = self.u29()?;
        let number = usize::try_from(field >> 1).map_err(|_| AmfError::Truncated)?;
        Ok((field & 1 == 0, number))
    }

    fn object_head(&mut self) -> Result<Head, AmfError> {
        let (is_reference, number) = self.head()?;
        if !is_reference {
            self.objects += 1;
            Ok(Head::New(number))
        } else if number < self.objects {
            Ok(Head::Reference)
        } else {
            Err(AmfError::Reference)
        }
    }

    fn string(&mut self) -> Result<&'a [u8], AmfError> {
        let (is_reference, number) = self.head()?;
        if is_reference {
            let string = self.strings.get(number).copied().ok_or(AmfError::Reference)?;
            self.budget.reference(string.len())?;
            return Ok(string);
        }
        let string = self.input.take(number)?;
        // The empty string is never put into the table.
        if !string.is_empty() {
            self.strings.push(string);
        }
        Ok(string)
    }

    fn bytes(&mut self, wrap: fn(&'a [u8]) -> Value<'a>) -> Result<Value<'a>, AmfError> {
        match self.object_head()? {
            Head::Reference => Ok(Value::Reference),
            Head::New(length) => self.input.take(length).map(wrap),
        }
    }

    fn array(&mut self) -> Result<Value<'a>, AmfError> {
        let Head::New(count) = self.object_head()? else { return Ok(Value::Reference) };
        self.budget.elements(count)?;
        let mut properties = Properties::new();
        self.pairs(&mut properties)?;
        let elements = self.values(count)?;
        Ok(match (properties.is_empty(), elements.is_empty()) {
            (true, _) => Value::StrictArray(elements),
            (false, true) => Value::EcmaArray(properties),
            (false, false) => Value::MixedArray { properties, elements },
        })
    }

    /// Keys and values until an empty key.
    fn pairs(&mut self, properties: &mut Properties<'a>) -> Result<(), AmfError> {
        loop {
            let key = self.string()?;
            if key.is_empty() {
                return Ok(());
            }
            self.budget.elements(properties.len() + 1)?;
            let value = self.read()?;
            properties.push((key, value));
        }
    }

    fn values(&mut self, count: usize) -> Result<Vec<Value<'a>>, AmfError> {
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.read()?);
        }
        Ok(values)
    }

    fn object(&mut self) -> Result<Value<'a>, AmfError> {
        let field = self.u29()?;
        if field & 1 == 0 {
            let index = usize::try_from(field >> 1).map_err(|_| AmfError::Reference)?;
            return if index < self.objects {
                Ok(Value::Reference)
            } else {
                Err(AmfError::Reference)
            };
        }
        self.objects += 1;
        let traits = self.traits(field)?;
        let mut properties = Properties::new();
        for name in traits.sealed {
            let value = self.read()?;
            properties.push((name, value));
        }
        if traits.dynamic {
            self.pairs(&mut properties)?;
        }
        Ok(if traits.class.is_empty() {
            Value::Object(properties)
        } else {
            Value::TypedObject { class: traits.class, properties }
        })
    }

    fn traits(&mut self, field: u32) -> Result<Traits<'a>, AmfError> {
        if field & 0b10 == 0 {
            let index = usize::try_from(field >> 2).map_err(|_| AmfError::Reference)?;
            let traits = self.traits.get(index).ok_or(AmfError::Reference)?;
            self.budget.reference(traits.bytes())?;
            return Ok(traits.clone());
        }
        if field & 0b100 != 0 {
            return Err(AmfError::Externalizable);
        }
        let count = usize::try_from(field >> 4).map_err(|_| AmfError::Properties)?;
        self.budget.elements(count)?;
        let class = self.string()?;
        let mut sealed = Vec::new();
        for _ in 0..count {
            // A name costs as much as a value, because it may be one byte on the wire and stays
            // in the table.
            self.budget.value()?;
            sealed.push(self.string()?);
        }
        let traits = Traits { class, dynamic: field & 0b1000 != 0, sealed };
        self.traits.push(traits.clone());
        Ok(traits)
    }

    fn vector<const N: usize>(
        &mut self,
        number: fn([u8; N]) -> f64,
    ) -> Result<Value<'a>, AmfError> {
        let Head::New(count) = self.object_head()? else { return Ok(Value::Reference) };
        self.budget.elements(count)?;
        let _fixed = self.input.byte()?;
        let mut elements = Vec::new();
        for _ in 0..count {
            self.budget.value()?;
            elements.push(Value::Number(number(self.input.array()?)));
        }
        Ok(Value::StrictArray(elements))
    }

    fn vector_object(&mut self) -> Result<Value<'a>, AmfError> {
        let Head::New(count) = self.object_head()? else { return Ok(Value::Reference) };
        self.budget.elements(count)?;
        let _fixed = self.input.byte()?;
        let _type_name = self.string()?;
        self.values(count).map(Value::StrictArray)
    }

    fn dictionary(&mut self) -> Result<Value<'a>, AmfError> {
        let Head::New(count) = self.object_head()? else { return Ok(Value::Reference) };
        self.budget.elements(count)?;
        let _weak = self.input.byte()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let key = self.read()?;
            let value = self.read()?;
            entries.push((key, value));
        }
        Ok(Value::Dictionary(entries))
    }
}

#[cfg(test)]
mod tests;
