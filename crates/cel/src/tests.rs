//! Tables of expressions: what they are worth, what they cost, and why they are refused.

mod fuzz;

use smol_str::SmolStr;

use crate::{Env, Error, Program, Sizes, Type, Value};

fn env() -> Env {
    let spec = Type::object(
        "spec",
        [
            ("replicas".into(), Type::Int),
            ("names".into(), Type::list(Type::String)),
            ("labels".into(), Type::map(Type::String, Type::String)),
        ],
    );
    Env::new()
        .with("self", Type::object("self", [("spec".into(), spec), ("name".into(), Type::String)]))
        .with("object", Type::Dyn)
        .with("n", Type::Int)
}

fn object<'a>() -> Value<'a> {
    let names = Value::list(["b", "a"].map(|n| Value::String(n.into())));
    let labels = Value::map([("app".into(), Value::String("web".into()))]);
    let spec = [("replicas".into(), Value::Int(3)), ("names".into(), names), ("labels".into(), labels)];
    Value::map([("spec".into(), Value::map(spec)), ("name".into(), Value::String("x".into()))])
}

fn run(text: &str) -> (Result<Value<'static>, Error>, u64) {
    let program = Program::compile(&env(), text).unwrap_or_else(|issues| panic!("{text}\n{issues}"));
    let variables = [("self", object()), ("object", object()), ("n", Value::Int(7))];
    program.evaluate(&variables[..], 1_000_000)
}

fn holds(text: &str) {
    match run(text).0 {
        Ok(Value::Bool(true)) => {}
        other => panic!("{text}: {other:?}"),
    }
}

fn fails(text: &str, why: &str) {
    match run(text).0 {
        Err(error) => assert!(error.message.contains(why), "{text}: {error}"),
        Ok(value) => panic!("{text}: {value:?}"),
    }
}

fn refused(text: &str, why: &str) {
    match Program::compile(&env(), text) {
        Err(issues) => assert!(issues.to_string().contains(why), "{text}\n{issues}"),
        Ok(_) => panic!("{text} is accepted"),
    }
}

#[test]
fn operators() {
    for text in [
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9",
        "-7 / 2 == -3 && -7 % 2 == -1 && 7u / 2u == 3u",
        "1.5 + 1.5 == 3.0 && 1 < 2.5 && 2u > 1 && dyn(1) == 1.0",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2]",
        "!(1 > 2) && !!true && --n == 7 && -n == -7",
        "true || (1 / 0 == 1)",
        "(1 / 0 == 1) || true",
        "!(false && (1 / 0 == 1)) && !((1 / 0 == 1) && false)",
        "n > 5 ? true : 1 / 0 == 0",
        "n in [1, 7] && !(n in [2]) && 'app' in self.spec.labels && !('b' in {'a': 1})",
        "[1, 2, 3][1] == 2 && {'a': {'b': 3}}.a.b == 3 && {'a': 1}['a'] == 1 && {1: 'x'}[1] == 'x'",
        "dyn([1, 2]) == [1.0, 2.0]",
        "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "null == null && object != null && dyn('a') != dyn(1)",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h') == timestamp('2024-01-01T01:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "duration('1m') > duration('59s') && 'b' > 'a' && b'b' > b'a' && true > false",
    ] {
        holds(text);
    }
    fails("1 / 0 == 0", "division by zero");
    fails("9223372036854775807 + 1 == 0", "integer overflow");
    fails("[1][3] == 0", "index out of bounds: 3");
    fails("self.spec.labels['nope'] == ''", "no such key: nope");
    fails("object.spec.nope == ''", "no such key: nope");
    fails("object.spec.replicas + 'a' == ''", "no such overload");
}

#[test]
fn macros_and_loops() {
    for text in [
        "has(self.spec.replicas) && has(object.spec.names) && !has(object.spec.nope) && has(self.spec.labels.app)",
        "[1, 2, 3].all(x, x > 0) && ![1, 2, 3].all(x, x > 1) && [].all(x, false)",
        "[1, 2].exists(x, x == 2) && [0, 1].exists(x, 1 / x == 1) && ![0, 2].all(x, 1 / x == 1)",
        "[1, 2, 2].exists_one(x, x == 1) && ![1, 2, 2].existsOne(x, x == 2)",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[1, 2, 3].filter(x, x % 2 == 1) == [1, 3]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}.map(k, k) == ['a']",
        "[[1], [2, 3]].map(l, l.map(x, x + n)) == [[8], [9, 10]]",
        "self.spec.names.all(a, self.spec.names.exists(b, a == b))",
        "[5, 6].all(i, v, v == i + 5) && {'a': 'b'}.exists(k, v, k == 'a' && v == 'b')",
        "[5, 6].transformList(i, v, i * v) == [0, 6] && [5, 6].transformList(i, v, i > 0, v) == [6]",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && ['x'].transformMap(i, v, v) == {0: 'x'}",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
        "[3, 1, 2].sortBy(x, -x) == [3, 2, 1]",
    ] {
        holds(text);
    }
    fails("['a', 'a'].transformMapEntry(i, v, {v: i}) == {}", "key a already exists");
    refused("has(n)", "invalid argument to has() macro");
    refused("[1].all(x.y, true)", "argument must be a simple name");
    refused("[1].all(x, x, true)", "duplicate variable name: x");
    refused("n.all(x, true)", "expression of type 'int' cannot be range of a comprehension");
}

#[test]
fn optionals() {
    for text in [
        "self.?name.orValue('y') == 'x' && object.?nope.orValue('y') == 'y'",
        "object.?spec.?nope.?deeper.hasValue() == false && object.?spec.replicas.value() == 3",
        "optional.of(1).or(optional.none()).value() == 1 && optional.none().orValue(2) == 2",
        "[1, 2][?1].value() == 2 && ![1][?5].hasValue() && {'a': 1}[?'a'].hasValue()",
        "optional.of(2).optMap(x, x + 1).value() == 3 && !optional.none().optMap(x, x).hasValue()",
        "optional.of(2).optFlatMap(x, optional.of(x)).value() == 2",
        "[?optional.none(), 1] == [1] && {?'a': optional.none()} == {} && {?'a': optional.of(1)} == {'a': 1}",
        "!optional.ofNonZeroValue('').hasValue() && optional.ofNonZeroValue(1).hasValue()",
        "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && optional.unwrap([optional.of(1)]) == [1]",
        "optional.of(1) == optional.of(1) && optional.of(1) != optional.none()",
    ] {
        holds(text);
    }
    fails("optional.none().value() == 1", "optional.none() dereference");
}

#[test]
fn conversions_and_times() {
    for text in [
        "int('12') == 12 && int(3.9) == 3 && uint(3) == 3u && double(1) == 1.0 && string(12) == '12'",
        "string(1.5) == '1.5' && string(1e30) == '1e+30' && string(true) == 'true' && bool('true')",
        "string(b'abc') == 'abc' && bytes('é') == b'é' && size(bytes('é')) == 2 && size('é') == 1",
        "type(1) == int && type('') == string && type([]) == list && type(type(1)) == type",
        "type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp && type(null) == null_type",
        "string(duration('1h30m')) == '5400s' && string(timestamp('2024-01-01T00:00:00.5Z')) == '2024-01-01T00:00:00.5Z'",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60 && timestamp(60) == timestamp('1970-01-01T00:01:00Z')",
        "timestamp('2024-03-05T06:07:08.009Z').getFullYear() == 2024 && timestamp('2024-03-05T06:07:08Z').getMonth() == 2",
        "timestamp('2024-03-05T06:07:08Z').getDate() == 5 && timestamp('2024-03-05T06:07:08Z').getDayOfMonth() == 4",
        "timestamp('2024-03-05T23:30:00Z').getHours('Europe/Berlin') == 0 && timestamp('2024-03-05T06:07:08Z').getHours('-02:00') == 4",
        "timestamp('2024-03-05T06:07:08.009Z').getMilliseconds() == 9 && duration('90s').getMinutes() == 1",
    ] {
        holds(text);
    }
    fails("int('x') == 1", "type conversion error");
    fails("uint(-1) == 1u", "unsigned integer overflow");
    refused("duration('x') == duration('1s')", "invalid duration argument");
    refused("timestamp('x') == timestamp(1)", "invalid timestamp argument");
    refused("'a'.matches('(')", "invalid matches argument");
}

#[test]
fn texts_and_lists() {
    for text in [
        "'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b') && 'abc'.matches('^a.c$')",
        "'tacocat'.charAt(3) == 'o' && 'abc'.charAt(3) == '' && 'hello mellow'.indexOf('ello') == 1",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello mellow'.lastIndexOf('ello') == 7",
        "'hello mellow'.lastIndexOf('ello', 6) == 1 && 'abc'.indexOf('x') == -1",
        "'TacO'.lowerAscii() == 'taco' && 'TacO'.upperAscii() == 'TACO' && '  a '.trim() == 'a'",
        "'he he'.replace('he', 'we') == 'we we' && 'he he'.replace('he', 'we', 1) == 'we he'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'abc'.split('') == ['a', 'b', 'c']",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "['a', 'b'].join('-') == 'a-b' && [].join() == '' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'%s has %d of %.2f %x'.format(['x', 3, 1.5, 255]) == 'x has 3 of 1.50 ff'",
        "'%s'.format([[1, 'a', {'k': null}]]) == '[1, \"a\", {\"k\":null}]' && '%e'.format([3.14]) == '3.140000\\u202f×\\u202f10⁰⁰'",
        "[1, 2, 2].isSorted() && [1, 2].sum() == 3 && [1.0].sum() == 1.0 && [1, 3, 2].max() == 3 && ['b', 'a'].min() == 'a'",
        "[1, 2, 2].indexOf(2) == 1 && [1, 2, 2].lastIndexOf(2) == 2 && [1, 2].includes(2) && 'a'.includes('a')",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2]].flatten() == [1, 2] && [3, 1].sort() == [1, 3]",
        "lists.range(3) == [0, 1, 2] && [1, 2].reverse() == [2, 1] && [1, 1, 2].distinct() == [1, 2]",
        "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
        "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
    ] {
        holds(text);
    }
    fails("'abc'.charAt(4) == ''", "index out of range: 4");
    fails("'abc'.substring(2, 1) == ''", "invalid substring range");
    fails("[].max() == 1", "max called on empty list");
    fails("[1].slice(0, 2) == [1]", "list is length 1");
    fails("'%d'.format(['a']) == ''", "can only be used on numbers");
}

#[test]
fn libraries_of_kubernetes() {
    for text in [
        "url('https://user@example.com:80/a%20b?k=v&k=w').getHost() == 'example.com:80'",
        "url('https://example.com:80/a%20b?k=v&k=w').getQuery()['k'] == ['v', 'w'] && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://example.com:80/a b').getEscapedPath() == '/a%20b' && url('https://e.com:80/').getPort() == '80'",
        "url('/path').getScheme() == '' && isURL('https://a') && !isURL('a/b') && !isURL('')",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1.5').compareTo(quantity('1500m')) == 0",
        "quantity('50k').add(20) == quantity('50020') && quantity('1').sub(quantity('2')).sign() == -1",
        "quantity('2').asInteger() == 2 && !quantity('2.5').isInteger() && quantity('2.5').asApproximateFloat() == 2.5",
        "isQuantity('1.3Gi') && !isQuantity('1.3GG') && isQuantity('1e3') && quantity('0.1n') == quantity('1n')",
        "semver('1.2.3').major() == 1 && semver('1.2.3-a').isLessThan(semver('1.2.3')) && isSemver('1.0.0+b')",
        "!isSemver('v1.0') && isSemver('v1.0', true) && semver('v01.2', true) == semver('1.2.0')",
        "ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && !isIP('1.2.3') && string(ip('::0001')) == '::1'",
        "ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:DB8::1') && ip('10.0.0.1').isGlobalUnicast()",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "cidr('192.168.1.1/24').masked() == cidr('192.168.1.0/24') && cidr('10.0.0.0/8').prefixLength() == 8",
        "cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && isCIDR('::/0') && !isCIDR('10.0.0.0/33')",
        "!format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My').hasValue()",
        "format.named('uuid').value().validate('x').value() == ['does not match the UUID format']",
        "!format.named('nope').hasValue() && !format.date().validate('2024-02-29').hasValue()",
    ] {
        holds(text);
    }
    fails("ip('::ffff:1.2.3.4') == ip('1.2.3.4')", "IPv4-mapped");
    fails("quantity('x').sign() == 1", "quantities must match");
    refused("jsonpatch.escapeKey('a') == 'a'", "undeclared reference to 'jsonpatch'");
}

#[test]
fn refusals_have_the_words_that_are_known() {
    for (text, why) in [
        ("self = 42", "ERROR: <input>:1:6: Syntax error: token recognition error at: '='"),
        ("... [] bad expression", "Syntax error"),
        ("self.z == 100", "ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^"),
        ("1 +", "Syntax error: mismatched input '<EOF>' expecting"),
        ("1 2", "Syntax error: extraneous input '2' expecting <EOF>"),
        ("for == 1", "reserved identifier: for"),
        ("nope == 1", "undeclared reference to 'nope' (in container '')"),
        ("nope(1)", "undeclared reference to 'nope' (in container '')"),
        ("1 + 'a' == 2", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("n == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("'a'.startsWith(1)", "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("n.x", "type 'int' does not support field selection"),
        ("[1, 'a'] == []", "expected type 'int' but found 'string'"),
        ("true && 1", "expected type 'bool' but found 'int'"),
        ("Nope{a: 1} == null", "undeclared reference to 'Nope'"),
        ("9223372036854775808 == 1", "invalid int literal"),
    ] {
        refused(text, why);
    }
}

#[test]
fn costs_are_counted_and_limited() {
    for (text, cost) in [
        ("true", 0),
        ("n", 1),
        ("self.spec.replicas", 3),
        ("has(self.spec.replicas)", 2),
        ("self.spec.replicas == 3", 4),
        ("self.name == 'x'", 3),
        ("[n, 1]", 11),
        ("{'a': n}", 31),
        ("n in [1, 2]", 1),
        ("double(5) < 10.0", 1),
        ("'%o %o %o'.format([7, 8, 9]) == '7 10 11'", 2),
        // Each round: accumulator, whether to go on, accumulator, item, comparison; then the result.
        ("[1, 2].all(x, x > 0)", 2 * 5 + 1),
    ] {
        assert_eq!(run(text).1, cost, "{text}");
    }
    let program = Program::compile(&env(), "[1,2,3,4,5,6,7,8].all(a, [1,2,3,4].all(b, a > b - n))");
    let program = program.unwrap_or_else(|issues| panic!("{issues}"));
    let variables = [("n", Value::Int(7))];
    let (result, _) = program.evaluate(&variables[..], 50);
    let error = result.err();
    assert!(error.as_ref().is_some_and(|e| e.exhausted), "{error:?}");
    assert_eq!(error.map(|e| e.message).as_deref(), Some("operation cancelled: actual cost limit exceeded"));
    // Nothing swallows it.
    let program = Program::compile(&env(), "[1,2,3].exists(x, x > n) || true");
    let (result, _) = program.unwrap_or_else(|issues| panic!("{issues}")).evaluate(&variables[..], 5);
    assert!(result.is_err_and(|e| e.exhausted));
}

/// As `maxItems` and `maxLength` would say.
struct Declared;

impl Sizes for Declared {
    fn max(&self, path: &[SmolStr]) -> Option<u64> {
        match path.iter().map(SmolStr::as_str).collect::<Vec<_>>().as_slice() {
            ["self", "spec", "names"] => Some(10),
            ["self", "spec", "names", "@items"] => Some(20),
            ["self", "name"] => Some(100),
            _ => None,
        }
    }
}

#[test]
fn costs_are_estimated() {
    for (text, min, max) in [
        ("n > 1", 2, 2),
        ("self.name == 'x'", 3, 3),
        ("self.name.contains('abc')", 2, 12),
        ("self.spec.names.all(s, s == 'string constant')", 4, 4 + 10 * (2 + 1 + 3)),
        ("self.spec.names.all(s, self.spec.names.all(t, s == t))", 4, 1 + 3 + 10 * (3 + 4 + 10 * 7)),
        ("self.spec.names.map(s, s + 'a').size() > 0", 16, u64::MAX),
        ("n > 1 || self.name == 'x'", 2, 5),
        ("n > 1 ? 'a' : self.name", 2, 4),
    ] {
        let program = Program::compile(&env(), text).unwrap_or_else(|issues| panic!("{text}\n{issues}"));
        let estimate = program.estimate(&Declared);
        if max == u64::MAX {
            assert!(estimate.min >= min && estimate.max < 1000, "{text}: {estimate:?}");
        } else {
            assert_eq!((estimate.min, estimate.max), (min, max), "{text}");
        }
        let (result, actual) = run(text);
        assert!(result.is_ok() && actual <= estimate.max, "{text}: {actual} > {estimate:?}");
    }
    let unbounded = Program::compile(&env(), "object.all(x, object.all(y, x == y))");
    assert_eq!(unbounded.map(|p| p.estimate(&Declared).max).ok(), Some(u64::MAX));
}
