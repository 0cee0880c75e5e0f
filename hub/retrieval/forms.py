"""How tools print places, frames and messages: the patterns that ``hub.retrieval.pasted`` reads pastes by.

Every pattern is matched against one line of bounded length, and takes time in proportion to it: what may repeat is
bounded or excludes what follows. Knows nothing of what the lines mean together.
"""

import re

from indexer.patterns import later

EXTENSION = (
    r"(?:c|cc|cpp|cxx|c\+\+|C|h|hh|hpp|hxx|h\+\+|H|inl|inc|ipp|ixx|cppm|tcc|tpp|txx|cu|cuh|mm?|def|proto|cmake|txt)"
)
PATH = rf"(?:[A-Za-z]:(?=[\\/]))?[\w./\\~+@-]{{1,300}}\.{EXTENSION}"
PLACE = later(
    rf"(?<![\w./\\~+@-])(?P<path>{PATH})"
    r"(?::(?P<line>\d{1,7})(?::\d{1,6})?(?![\w:]\w)|\((?P<msvc>\d{1,7})(?:,\d{1,6}){0,3}\)"
    r"|[\"']?, line (?P<word>\d{1,7})\b| @ (?P<windbg>\d{1,7})\b| : (?P<breakpad>\d{1,7})\b)"
)
ANY_FILE = later(r"(?:^|\s|\()(?P<path>/[^\s:()]{1,300}):(?P<line>\d{1,7})(?::\d{1,6})?\)?\s*$")

# Frames of stacks. What follows the address is read by ``_Reader.frame``.
HEX = r"(?:0x)?[0-9a-fA-F`]{4,17}"
BREAKPOINT = r"(?:Thread \d+ \S+ hit )?Breakpoint \d+, "
AT = r"\)(?: const)? at \S{1,300}:\d+"
FRAMES = tuple(
    later(pattern)
    for pattern in (
        rf"#\d{{1,6}}\s+(?:{HEX}\s+)?(?:in\s|pc\s{HEX}\s+\S+)?\s*(?P<rest>\S.*)",  # gdb, sanitizers, Android
        rf"\*?\s*frame #\d{{1,6}}: {HEX} (?:[^`\s]{{1,200}}`)?(?P<rest>.*)",  # lldb
        rf"(?:at|by) {HEX}: (?P<rest>.*)",  # valgrind
        rf"(?:PC: )?@\s+{HEX}\s+(?:\d{{1,9}}\s+)?(?P<rest>\S.*)",  # glog, Abseil, folly
        r"[^\s()]{1,300}\((?P<rest>[\w.]*)(?:[+-]0x[0-9a-f]+)?\) ?\[0x[0-9a-f]+\]",  # backtrace_symbols of glibc
        r"\d{1,4}# (?P<rest>\S.*)",  # Boost.Stacktrace, std::stacktrace
        r"\d{1,4}> (?P<rest>\S.*)",  # std::stacktrace of Microsoft's library
        rf"(?=.{{1,3000}} \((?:[\w#]{{1,80}}=|\)))(?:{HEX} in |{BREAKPOINT})?(?P<rest>[\w:~].{{0,3900}}{AT}$)",  # gdb
        r"(?:\d{1,4}>? |>)?\s*[\w.+-]{1,100}\.(?:dll|exe|sys|so)(?:\.\d+)*!(?P<rest>\S.*)",  # Visual Studio, Breakpad
        rf"[0-9a-f]{{2,4}} (?:{HEX} ){{1,2}}[\w.+-]{{1,100}}!(?P<rest>\S.*)",  # WinDbg
        r"\d{1,4}\s{1,8}[\w.+-]{1,100}!(?P<rest>[A-Za-z_:`~?]\S.*)",  # Breakpad
        r"\d{1,4}\s{1,8}[\w.+-]{1,100}\s{1,40}0x[0-9a-f]{8,16} (?P<rest>\S.*)",  # crash reports of macOS
    )
)
BY_ITSELF = later(  # what follows a number without an address, and is not prose
    r"(?=[^\s(]+ ?\().{0,3900}\)(?: const)?(?: (?:from|in) \S+)?$|<(?:null|signal|unknown)|\?\? |\S+ in \S+$|0x"
)
IN_MODULE = later(r" in [^\s()]+$")
MODULE_AFTER = later(
    r"\s(?:in|from) [^\s()]+$|\s\((?:in )?[^\s()]*(?:\+0x[0-9a-f]+|\.so[\d.]*)\)$|\s\(BuildId: \w+\)$"
    r"|\s\[0x[0-9a-f]+\]$"
    r"|\s\+ \d+$"
)
ENDS_OF_STACKS = later(
    r"\b(?:__cxa_throw|(?<!::)(?:__GI_)?(?:abort|raise)(?= \()|_{2,3}assert_fail(?:_base)?|__assert_rtn|LogMessageFatal"
    r"|signal handler called|_?sigtramp|KiUserExceptionDispatch\w*)"
)
THREAD = later(r"Thread \d+ (?:\(|Crashed|name:)|\* ?thread #\d+|thread #\d+")
LATER_STACK = later(
    r"freed by thread|allocated by (?:thread|main)|[Bb]lock was alloc'd|free'd\b|was created by"
    r"|created by (?:main )?thread|is located .{0,80}(?:stack|frame)"
    r"|Previous (?:atomic )?(?:read|write)|was stored to memory at|allocated at\b"
)
REPORT = later(
    r"(?:ERROR|WARNING): (?P<tool>\w{1,40}Sanitizer): (?P<text>.*)|SUMMARY: \w{1,40}Sanitizer: (?P<summary>.*)"
    r"|\bruntime error: (?P<undefined>.*)"
)
MEMCHECK = later(
    r"Invalid (?:read|write|free)|Conditional jump or move|Use of uninitiali[sz]ed|Mismatched free|Jump to the invalid"
    r"|Syscall param|Process terminating|[\d,]+ (?:\([^()]*\) )?bytes in [\d,]+ blocks are"
    r"|Possible data race|lock order"
)
DIRECT_LEAK = later(r"(?:Direct|Indirect) leak of")

DIAGNOSTIC = later(r"\s{0,8}:?\s{0,8}(?P<level>fatal error|error|warning|note|message|remark)\b ?[A-Z]{0,5}\d{0,5}: ?")
REQUIRED = later(r"\s*:?\s+(?:required (?:from|by)|recursively required)|\s*: In |.{0,20}see reference to")
LOCATED = later(
    r"(?P<path>(?:[A-Za-z]:)?(?:/[^\s:()]{1,300}|\\[^:()]{1,300}|[^:()]{0,300}?\.\w{1,6}|[^\s:()]{0,200}\.h\+\+))"
    r"(?::(?P<line>\d{1,7})(?::\d{1,6})?:|\((?P<msvc>\d{1,7})(?:,\d{1,6}){0,3}\)\s?:)(?P<rest>.*)"
)
INCLUDED = later(r"(?:In file included|\s+) +from (?=\S+:\d)")
IN_FUNCTION = later(
    r"\b[Ii]n (?:[a-z ]{0,40})(?:function|constructor|destructor|instantiation of) [`'\u2018\"]?(?P<name>.+)"
)
ECHO = later(r"\s*(?:->\s*)?\d+ *[|\t]|\s+\|")
CARET = later(r"[\s~|-]*\^[\s~^|-]*$")
QUOTED = later(r"\u2018([^\u2018\u2019]{2,2000})\u2019|'([^']{2,2000})'|`([^`']{2,2000})[`']|\"([^\"]{2,2000})\"")
QUALIFIED = later(r"(?<![\w:])[A-Za-z_]\w*(?:::~?[A-Za-z_]\w*)+")
REQUIRES = later(r"in instantiation of|requested here|see reference to")
ARGUMENTS = later(r"<[^<>]{0,2000}>")
WITH = later(r"\[with .*")

UNDEFINED = later(
    r"(?:undefined (?:reference to|(?:hidden |protected )?symbol(?:: ?| (?=[`'\"_])))|unresolved external symbol"
    r"|multiple definition of|duplicate symbol(?:: ?| (?=[`'\"_]))|relocation .{0,60} against symbol)\s*(?P<rest>.*)"
)
ALREADY = later(r"LNK2005: (?P<rest>.*) already defined")
FOR_ARCHITECTURE = later(r'"(?P<rest>[^"]{1,2000})", referenced from:')
REFERRER = later(r"\s{4,}(?P<rest>\S.*) in [^\s()]+\.(?:o|a|dylib)(?:\[\d+\])?(?:\(\S+\))?$")
REFERENCED = later(r"referenced in function (?P<rest>.*)")
LINKED_PLACE = later(r">>> (?:referenced by|defined (?:at|in)) (?P<rest>.*)")

TEST_FAILED = later(
    r"\[ {2}FAILED {2}\] (?P<google>[A-Z_a-z][\w/]*\.[\w/]+)"
    r"|\s*\d+ - (?P<ctest>\S.*?) \((?:Failed|SEGFAULT|Timeout|Subprocess|ILLEGAL|NUMERICAL|Not Run"
    r"|SIG\w+|Child aborted)"
    r"|.{0,20}Test +#\d+: (?P<running>\S+) \.*\**(?:Failed|Exception|Timeout)"
    r"|TEST CASE: {1,4}(?P<doctest>\S.*)|Scenario: (?P<scenario>.*)"
)
TEST_RUN = later(r"\[ RUN {6}\] (?P<name>[\w/.]+)")
TEST_PROGRESS = later(r"\[(?:==|--|\s{2}PASSED|\s{7}OK|\s{2}SKIPPED)")
FAILURE = later(
    r"\s*(?:Failure\b|FAILED:|(?:FATAL )?ERROR: (?:CHECK|REQUIRE|test case)|error: in \"(?P<boost>[^\"]+)\"[:\s])"
)
EXPRESSION = later(r"(?<!values: )\b(?:REQUIRE|CHECK|ASSERT|EXPECT)\w*\( ?(?P<rest>.*)")
RULE = later(r"[-.=~]{20,}$")
TEST_NAME = later(
    r"(?:--gtest_filter=)?((?:\w+/)?[A-Z]\w*(?:Tests?|Suite|Fixture|TestCase)(?:/\d+)?|\w+/[A-Z]\w*)\.\w+(?:/\w+)?"
)

ASSERTION = later(
    r"Assertion [`'\"\u2018]?(?P<gnu>.{1,600}?)['`\u2019\"]? failed|Assertion failed: (?P<c>.*)"
    r"|[Cc]heck failed: (?P<check>.*)|CHECK(?:_\w+)? failed:? ?(?P<macro>.*)"
    r"|\bASSERT(?:ION)?(?: FAILED)?: (?P<other>.*)"
)
IN_ASSERTION = later(r"function (?P<name>[\w:~<>]+)|:\d+: (?P<gnu>[^:`].{1,600}): Assertion")
TERMINATE = later(
    r"terminat(?:e called after throwing an instance of|ing (?:due to|with) uncaught exception of type)"
    r" '?(?P<type>[\w:]*\w)'?(?:: (?P<text>.*))?|what\(\): +(?P<what>.*)"
)

LEVELS = {
    "fatal": 0, "f": 0, "critical": 0, "crit": 0, "error": 1, "err": 1, "e": 1, "severe": 1, "warning": 2, "warn": 2,
    "w": 2, "notice": 3, "info": 3, "i": 3, "debug": 3, "trace": 3,
}  # fmt: skip
LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|SEVERE)"
GLOG = later(
    r"(?P<level>[IWEF])\d{4,8} \d\d:\d\d:\d\d(?:\.\d+)?\s+\S+ (?P<path>[^\s:\]]{1,300}):(?P<line>\d{1,7})\]"
    r" ?(?P<text>.*)"
)
STAMP = later(
    r"\[?(?:\d{4}[-/.]\d\d[-/.]\d\d[T ]\d\d:\d\d:\d\d|\d\d:\d\d:\d\d[.,]\d{2,9}|\d\d:\d\d:\d\d\]"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]+ [\w./-]+(?:\[\d+\])?:)[\d.,:Z+-]*\]?"
)
BRACKETED = later(r"\s*(?:\[[^\[\]]{0,60}\]|\([^()]{0,30}\)|\d+|[-|:])")
BARE_LEVEL = later(rf"\s*[<\[(]?(?P<level>{LEVEL}|{LEVEL.lower()})[>\])]?(?=[\s:|,-])\s*[:|-]*", re.ASCII)
PLAIN_LEVEL = later(rf"(?:\[(?P<bracketed>{LEVEL}|{LEVEL.lower()})\]:?|(?P<bare>{LEVEL}):)\s+(?P<text>\S.*)")

NOISE = later(
    # Sanitizers, debuggers and handlers of crashes
    r"[=.-]+$|==\d+==|\s*(?:=>)?0x[0-9a-f]+:|Shadow byte|\s+(?:Addressable|Partially|Heap|Freed|Stack|Global|Poisoned"
    r"|Container|Array|Intra|ASan|Left|Right|Shadow)\b.*: +[0-9a-f]{2}|AddressSanitizer:DEADLY|\s*Hint:|Exiting$"
    r"|\w{1,20}Sanitizer(?:: reported| can not)|\[Thread debugging|Using host libthread|\[New Thread|\[Switching"
    r"|Process \d+|\(lldb\)|\(gdb\)|Program (?:received|terminated)|No locals|No stack|Breakpoint \d|Traceback"
    r"|Current executable|\s+[a-z]\w{1,4} = 0x|\s+Found by:|Crash (?:reason|address):|[Bb]acktrace:|Segmentation fault"
    r"|Aborted|\*\*\* (?:Aborted|SIG|Signal|Check failure)|-> |->"
    # Builds
    r"|\[\d+/\d+\]|\[ *\d+%\]|g?make(?:\[\d+\])?:|ninja:|FAILED: |collect2:|clang(?:\+\+)?: error: linker|: && "
    r"|/usr/bin/|\S*ld(?:\.\w+)?: (?:warning|symbol)|Undefined symbols|Build FAILED|\d+ (?:errors?|warnings?)\b"
    r"|compilation terminated|-{4,} |Done building|=+ Build|LINK : |\s*Creating library|.{0,200}fatal error LNK1120"
    r"|[\w.]+\.(?:obj|lib|o|a)(?:\(|\s:)|[\w.]+\.(?:cpp|cc|cxx|c)$|-- "
    # Tests
    r"|\s*\d+ FAILED TEST|\[doctest\]|with expansion:|(?:Test project|\s*Start +\d|Errors while)|\d+% tests|test cases:"
    r"|assertions:|Running \d+ test|\*\*\* \d+ failure|\s+Which is:|(?:  )?Actual:|Expected equality|\s*values:"
    r"|The following tests FAILED|Value of:"
)
PREFIX = later(r"(?:##\[\w{1,20}\]|\d{4}-\d\d-\d\dT[\d:.]{8,20}Z |==\d+==(?!ERROR|WARN)\s?|\d{1,3}>(?=\S)|[>|] ){0,3}")
UNLIKELY_PROSE = later(r"0x[0-9a-f]|[{};=\\#@|]|::")
BLANK = later(  # what a message of a log was given, and its format has not
    r"\b\w{2,8}://\S+|(?<![\w/\\.])(?:[A-Za-z]:)?(?:[\w.~+-]{0,100}[/\\]){1,40}[\w.~+-]*|\b0x[0-9a-fA-F]+\b"
    r"|\b[0-9a-f]{8,64}\b|(?<!\w)[-+]?\d[\d.,:]*(?:[a-zA-Z%]{1,3}\b)?|\b(?:std|__gnu_cxx|__cxx11)::[\w:]*"
)
COLOUR = later(r"\x1b\[[0-9;]{0,20}[A-Za-z]")  # of a terminal
SPACES = later(r"\s+")
WORD = later(r"[^\W\d_]{2,}")  # of any language
SYSTEM_PATH = later(
    r"(?:^|/)(?:usr/(?:local/)?(?:include|lib\w*|libexec|share|src|bin)|lib(?:32|64)?|nptl|sysdeps|csu|libsanitizer"
    r"|compiler-rt|bits|opt/rh|Windows Kits|minkernel|vctools|ucrt|Xcode\.app|nix/store|stdlib|signal)/|/include/c\+\+/"
    r"|/VC/|^f:/dd/|libc[-_]start|(?:^|/)(?:invoke|std_function|std_thread|pthread_kill|raise|abort|assert|start_thread"
    r"|clone)\.[chS]$"
    r"|^(?:\.{1,2}/)*(?:nptl|sysdeps|csu|assert|stdlib|signal|debug|string|malloc|libio|misc|elf|io|posix)/[a-z_]+\.[chS]$",
    re.IGNORECASE,
)
SYSTEM_NAME = later(
    r"(?:std|__gnu_cxx|__cxxabiv1|__sanitizer|__asan|__tsan|__msan|__lsan|__ubsan|abi)::|(?:.*::)?_[_A-Z]\w*$"
    r"|operator (?:new|delete)|_?start$|(?:lib)?c?_?start_?main|start_thread$|pthread_\w+$|clone3?$|abort$"
    r"|raise$|malloc$"
    r"|calloc$|realloc$|free$|mem\w{3,4}$|str(?:len|cpy|cmp|ncpy|dup)$|BaseThreadInit|RtlUserThread|mainCRTStartup"
    r"|invoke_main$|Ki[A-Z]\w+$|ntdll|unknown$|null$|$"
)
KEYWORDS = frozenset(  # and what else is quoted without being a name worth asking for
    """alignas alignof and asm auto bool break case catch char class const constexpr continue decltype default delete do
    double else enum explicit export extern false final float for friend goto if inline int long mutable namespace new
    noexcept not nullptr operator or override private protected public register return short signed sizeof static
    struct switch template this throw true try typedef typeid typename union unsigned using virtual void volatile while
    xor size_t string vector main error warning note here""".split()
)

# Texts that hold none of these are no paste; most questions end here.
HINT = later(
    rf"\.{EXTENSION}(?::|\(|\"?, line | @ )\d|#\d|0x[0-9a-f]|\b_{{1,4}}Z[A-Za-z]|\?[?$\w]?\w{{1,60}}@|!\w"
    r"|\d# |\d\d:\d\d:\d\d"
    r"|(?i:undefined (?:reference|symbol)|unresolved external|multiple definition|duplicate symbol|failed|failure"
    rf"|sanitizer: |terminat(?:e|ing) )|(?m:^\W?{LEVEL}\]?:? )|(?m:^\[\w+\] )|(?m:^\S+Test)"
    r"|gtest_filter|\[ RUN|/\w+\.\w+/\d"
)
LEADING_ADDRESS = later(r"0x[0-9a-fA-F]+\s*(?:in )?")
HEX_ADDRESS = later(r"\b0x[0-9a-fA-F]{4,16}\b|\bpc [0-9a-f]{6,16}\b")
