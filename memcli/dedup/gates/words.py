"""Small closed lists: function words, abbreviations, everyday phrases. General English and the jargon of the trade.

Every list names what is harmless. What limits, denies or turns a statement needs no list: whatever is not explained
fails a gate. The lists of such words below only serve to name the gate.
"""

from __future__ import annotations

NEGATIONS = frozenset(
    """not no never none nobody nothing nowhere neither nor without unless except excluding exclude excludes stop stops
    stopped quit quits fail fails failed failing lack lacks lacked lacking deny denies denied refuse refuses refused
    avoid avoids avoided cancel cancels cancelled canceled hardly barely rarely seldom "no longer" need-not""".split()
)
QUANTIFIERS = frozenset(
    """all some any most many few several both every each half only always usually often sometimes never at-most
    at-least about-n over-n under-n a-few a-little more less fewer other exactly nearly almost just once twice
    everyone everybody someone somebody anyone entire whole part partly mainly mostly occasionally""".split()
)
MODALS = frozenset(
    """can could may might must shall should will would have-to need want-to plan-to planned-to want wants
    wanted plan plans planned intend intends
    intended hope hopes hoped consider considers considered considering try tries tried trying propose proposes
    proposed maybe perhaps probably possibly likely allegedly apparently supposedly if whether expect expects expected
    think thinks thought believe believes believed decide decided decides going optional required mandatory""".split()
)
STATES = frozenset(
    """was were had did used formerly previously once now currently still yet already until since anymore been being
    am is are be has have ago recently soon former current new old""".split()
)

MONTH_NAMES = """january jan, february feb, march mar, april apr, may, june jun, july jul, august aug,
september sep sept, october oct, november nov, december dec"""
MONTHS = {name: at for at, names in enumerate(MONTH_NAMES.split(","), start=1) for name in names.split()}
_DAY_NAMES = """monday mon, tuesday tue tues, wednesday wed weds, thursday thu thur thurs, friday fri, saturday sat,
sunday sun"""
_WEEK = [names.split() for names in _DAY_NAMES.split(",")]
WEEKDAYS = {name: names[0] for names in _WEEK for name in names}
# Words in their own right when they are no days: only these pass for a day without a capital.
PLAIN_WEEKDAYS = frozenset(names[0] for names in _WEEK) | {"tue", "tues", "thur", "thurs", "thu", "fri", "weds"}
DAY_PARTS = frozenset("morning afternoon evening night noon midnight day weekend week month year weekday".split())

# Verbs whose past is as their present.
UNCHANGED = frozenset(
    "bet bid burst cast cost cut hit hurt let put quit read reset set shed shut split spread upset".split()
)
CLOSED = frozenset(
    f"""a an the this that these those and or but nor so yet if unless because since although though while when where
    whether than as until till before after of in on at by for with from to into onto over under above below between
    among through during against about without within along across behind beyond except near off out up down via per
    toward towards upon instead i me my mine myself we us our ours ourselves you your yours yourself he him his himself
    she her hers herself it its itself they them their theirs themselves who whom whose which what how why not no never
    none nobody nothing neither either both all any some each every other another such only just also too very then
    there here now again always often usually sometimes once twice be am is are was were been being have has had having
    do does did doing done can could may might must shall should will would ought need dare used get gets got
    everyone everybody everything someone somebody something anyone anybody anything else ever even still already
    almost more most less least many much few little several enough yes ok one two three four five six seven eight nine
    ten eleven twelve {" ".join(MONTHS)} {" ".join(WEEKDAYS)}
    {" ".join(f"{day}s" for day in WEEKDAYS.values())}""".split()
)
# Everyday words of the trade that WordNet does not have.
MODERN = frozenset(
    """app api backend frontend webhook repo login signup logout username timeout timezone email wifi laptop smartphone
    blog podcast kubernetes docker postgres postgresql mongodb redis nginx sqlite mysql linux ubuntu macos windows
    github
    gitlab terraform ansible jenkins grafana prometheus elasticsearch kafka rabbitmq graphql javascript typescript
    python django flask react angular nodejs golang rust config namespace hostname subnet firewall rollback hotfix
    changelog codebase middleware microservice container containers deployment deployments rollout endpoint endpoints
    cron cronjob checkbox dropdown tooltip popup dashboard dashboards standup onboarding offboarding freelancer coworker
    roommate vegan gluten barista meetup startup smartwatch playlist screenshot spreadsheet autosave backup backups
    cache caching crypto dataset datasets debug debugging deploy deploys deployed deploying emoji encrypt encrypted
    encryption failover filesystem filename folder formatter lint linter localhost metadata parser plugin plugins
    prefetch refactor refactored refactoring regex runtime schema schemas scrollbar serverless staging stdout stderr
    stylesheet subdomain subprocess tokenizer unicode upload uploads uploaded uploading download url validator
    workaround workflow workflows workspace yaml""".split()
)

# What a short form may stand for; a form with other meanings of its own is harmless only where the long one stands.
_SHORT_FORMS = """prod production, stg staging, dev development developer, env environment, repo repository, config
configuration, conf configuration, cfg configuration, db database, app application, auth authentication authorization,
admin administrator, info information, doc document, docs documentation documents, spec specification, svc service,
conn connection, img image, mem memory, msg message, pkg package, lib library, req request requirement, reqs requests
requirements, resp response, srv server, svr server, dir directory, param parameter, params parameters, arg argument,
args arguments, attr attribute, var variable, vars variables, func function, fn function, obj object, ref reference,
refs references, impl implementation, perf performance, prio priority, sync synchronization, async asynchronous, temp
temperature temporary, tmp temporary, max maximum, min minimum minute, avg average, approx approximately, dept
department, mgr manager, mgmt management, mtg meeting, appt appointment, apt apartment, acct account, addr address, qty
quantity, amt amount, num number, no number, ppl people, govt government, univ university, uni university, asst
assistant, ext extension, est estimated, ave avenue, st street saint, rd road, blvd boulevard, bday birthday, fave
favorite favourite, fav favorite favourite, fridge refrigerator, gym gymnasium, lab laboratory, phone telephone, tv
television, vet veterinarian, bike bicycle, photo photograph, exam examination, ad advertisement, ads advertisements,
vs versus, w with, thru through, tho though, pls please, plz please, thx thanks, cuz because, bc because, wk week, wks
weeks, yr year, yrs years, mo month, mos months, hr hour, hrs hours, sec second, secs seconds, mins minutes, tbsp
tablespoon tablespoons, tsp teaspoon teaspoons, pkt packet, veg vegetable vegetables, meds medication medications, med
medication medicine, rx prescription, dr doctor, prof professor, jr junior, sr senior, eng engineering engineer, ops
operations, biz business, cert certificate, certs certificates, creds credentials, pwd password, pw password, usr user,
util utility, utils utilities, src source, dst destination, dest destination, comp computer, calc calculation, cat
category, desc description, diff difference, dup duplicate, err error, exec executive, exp experience, fig figure, freq
frequency, gen generation, hist history, id identifier, inc incorporated, int integer, str string, bool boolean, lang
language, loc location, misc miscellaneous, mod module, nav navigation, orig original, pic picture, pics pictures, pos
position, prev previous, proc process, prof professor, recv receive, ret return, rev revision, seq sequence, sess
session, sched schedule, stat statistic, stats statistics, subj subject, sub subscription, sys system, tel telephone,
txn transaction, val value, vals values, ver version, vol volume, xfer transfer, cust customer, inv invoice, whse
warehouse, ctr center, bldg building, flr floor, rm room, hq headquarters, mt mount, tmrw tomorrow, tmr tomorrow, ppt
presentation, vit vitamin, hwy highway, pkwy parkway, dept department, ingr ingredient, deps dependencies, dep
dependency, bldg building, temps temperatures, mins minutes, adv advance, dob birthdate, ve version, cal calendar,
cals calories, lvl level, mngr manager, org organization, orgs organizations, tech technology technician technical,
intro introduction, demo demonstration, promo promotion, vol volume volunteer, sig signature, auto automatic
automatically, rev revenue, mkt market, mktg marketing, intl international,
natl national, dist district, gov governor government, sept september, ticket tkt, k8s kubernetes, postgres postgresql,
pg postgres postgresql, js javascript, ts typescript, py python, mongo mongodb, gh github, i18n internationalization,
l10n localization, ver version, lb pound, lbs pounds, gal gallon, oz ounce ounces"""
SHORT_FORMS: dict[str, frozenset[str]] = {}
for _names in _SHORT_FORMS.split(","):
    _short, *_long = _names.split()
    SHORT_FORMS[_short] = SHORT_FORMS.get(_short, frozenset()).union(_long)

# Whatever stands in one line means the same wherever it stands (as tokens are written after the first steps: articles
# gone, "an" is "a", be-forms are "be" and "was"). The last one of a line is what the others become.
_PHRASES = """
in order to > so as to > to
as a result of > due to > owing to > on account of > because of
because > cause of that > because
prior to > before
subsequent to > after
rather than > in place of > instead of > instead-of
decided to use > decided on > opted to use > opted for > chose to use > chose
right now > at moment > at present > as of now > currently
not any longer > not any more > no longer
e.g. > eg > for instance > for example
i.e. > ie > that is to say > that is
as well as > along with > and
a lot of > lots of > plenty of > many
be able to > can
be unable to > be not able to > not be able to > can not
be required to > be obliged to > have to > need to > must
be supposed to > ought to > should
be going to > be gonna > will
do not have to > do not need to > need not > be not required to > need-not
be planning to > plan to > plans to > intend to > intends to > plan-to
was planning to > planned to > intended to > planned-to
would like to > want to > wants to > want-to
have got > have
be located > be situated
call for > require
calls for > requires
respond with > return
responds with > returns
responded with > returned
have fear of > have a fear of > be scared of > be afraid of
pushed back to > postponed to
push back to > postpone to
went up by > increased by
goes up by > increases by
went down by > decreased by
goes down by > decreases by
due date > deadline
car park > parking lot
needs to > must
every once in a while > occasionally
biannually > twice every year
amongst > among
underneath > beneath > under
via > through
at maximum of > a maximum of > maximum of > at most > no more than > not more than > up to > at-most
at minimum of > a minimum of > minimum of > at least > no less than > no fewer than > not less than > at-least
per cent > percent
per > each > every
with exception of > except for > except
regardless of > irrespective of > no matter
as of > starting from > starting on > from
in case of > in event of > in case
provided that > provided > as long as > if
close to > next to > near
a couple of > two
turn on > switch on > enable
turns on > switches on > enables
turned on > switched on > enabled
turn off > switch off > disable
turns off > switches off > disables
turned off > switched off > disabled
get rid of > remove
look for > search for
call off > cancel
called off > cancelled
put off > postpone
turn down > reject
turned down > rejected
take care of > look after
takes care of > looks after
find out > discover
found out > discovered
carry out > perform
carries out > performs
carried out > performed
take place > takes place > happen
took place > happened
make use of > use
makes use of > uses
made use of
give up > quit
gave up > quit
hand in > submit
handed in > submitted
consist of > consists of > be made up of > be made of
can not stand > hate
web site > website
e mail > email
phone number > telephone number
mobile phone > cell phone > cellphone
at once > immediately > right away > straight away
by end of day > by eod
as soon as possible > asap
responsible for > in charge of
scheduled for > set for
works for > be employed by > be employed at > works at
work for > work at
worked for > worked at
rolled out > deployed
roll out > deploy
rolled back > reverted
roll back > revert
caused by > because of
regarding > concerning > about
deals with > handles
dealt with > handled
speak to > speak with > talk with > talk to
spoke to > spoke with > talked with > talked to
met with > met
meet with > meet
meets with > meets
talked about > discussed
asked for > requested
ask for > request
looked into > investigated
look into > investigate
brand new > new
picked up > collected
pick up > collect
throw away > throw out > discard
sign up for > enroll in > enrol in > register for
signed up for > enrolled in > enrolled for > registered for
log in > sign in
logs in > signs in
be permitted to > be allowed to
in total > altogether > overall
be fan of > like
be keen on > like
be crazy about > love
free of charge > for free > free
once more > again
all of > all
both of > both
daily > every day
weekly > every week
monthly > every month
yearly > annually > annual > every year
hourly > every hour
nightly > every night
once every > once per > once each > every
work as > works as > be
worked as > was
have allergy to > have a allergy to > be allergic to
inside of > inside
outside of > outside
till > until
whilst > while
towards > toward
although > even though > though
therefore > thus > hence > so
on top of > on
upon > on
"""


def _phrases() -> dict[str, dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]]:
    found: dict[str, dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]] = {}
    for line in _PHRASES.strip().splitlines():
        *others, kept = (tuple(part.split()) for part in line.split(" > "))
        for words in others:
            second = words[1] if len(words) > 1 else ""
            found.setdefault(words[0], {}).setdefault(second, []).append((words, kept))
    for rows in found.values():
        for same in rows.values():
            same.sort(key=lambda row: -len(row[0]))
    return found


# By their first word, and by their second one ("" for those of one word), longest first.
PHRASES = _phrases()

# Words that may stand for one another wherever they stand, in the same form: what WordNet lacks or has elsewhere.
_GROUPS = """acquire obtain; conceal hide; reveal disclose; locate find; detect discover; misplace lose; ship send;
log record;
preserve keep; say state; admit confess; approve authorize; grant give; finance fund; achieve attain reach; beat
defeat; destroy ruin; injure hurt; fix correct; resolve solve; handle manage; run operate; perform execute; measure
gauge; evaluate assess; lengthen prolong extend; elevate raise; swiftly quickly; suddenly abruptly; formerly
previously; initially originally; totally completely; partly partially; noisy loud; filthy dirty; crucial essential
vital; necessary required; vacant empty; risky dangerous hazardous; false untrue; odd strange weird; unusual uncommon;
spacious roomy; voyage trip; pharmacy drugstore; buddy friend pal; boss manager; staff personnel; job position;
expense cost; contract agreement; outcome result; effect impact; answer response reply; timetable schedule; ache pain;
page webpage; link hyperlink; stove cooker; dusk twilight; spot place; border boundary; hire recruit; acquire
purchase; rise increase; fall decrease; finish complete; rent lease; find discover;
collect
gather; ask request; declare announce; inspect examine; forbid bar; company firm; picture photo; rug carpet; sneaker
trainer; sweater jumper pullover; trousers pants; eggplant aubergine; zucchini courgette; cilantro coriander; truck
lorry; petrol gasoline; airplane plane aeroplane; diaper nappy; tire tyre; wealthy rich; huge enormous gigantic;
previous prior; famous renowned; shortly soon; promptly immediately; presently currently; infant baby;
quickly speedily; silent quiet; accurate precise; reject decline; enable activate; disable deactivate; suggest
recommend propose advise; limit cap restrict; fix repair mend;
fix resolve; pick choose select; buy purchase; begin start commence; launch start; end finish; end expire lapse; visit
tour; ease relieve lessen
alleviate reduce; build construct; erase delete; show display; answer reply respond; help assist aid; need require;
allow permit let; prohibit forbid ban; get obtain; get receive; retain keep; leave depart; stop quit cease; deny
reject refuse; stay remain; relocate move migrate;
called named; use utilize
utilise employ; happen occur; speak talk; live reside; teach instruct; employ hire; verify check; examine inspect;
modify change alter; increase raise boost; decrease reduce lower; cut reduce lower; rise climb; fall drop decline; send
dispatch; hate detest loathe; love adore; enjoy like; want desire; try attempt; store save; store keep; run execute;
oversee supervise manage; lead head; migrate switch; set configure; usually typically normally generally;
boss supervisor; medicine medication; favorite favourite preferred; journey trip; own possess; register enroll enrol;
book reserve; schedule arrange; postpone delay
defer; call phone telephone; shut close; notify inform alert; tell inform; warn alert; explain clarify; supply provide
furnish; demand require; quick fast rapid speedy; big large; small tiny; cheap inexpensive; costly expensive
pricey; ill sick unwell; glad happy pleased; smart clever intelligent; hard difficult tough; easy simple; wrong
incorrect; right correct; mandatory required compulsory obligatory; whole entire; sufficient enough adequate; main
primary principal chief; extra additional; broken defective faulty; error mistake; bug defect; issue problem; holiday
vacation; kid child; mom mother mum; dad father; doctor physician; lawyer attorney; car automobile auto; couch sofa;
movie film; supper dinner; shop store; apartment flat; photo picture; present gift; garbage trash rubbish; autumn fall;
start beginning; aim goal objective; cost price; salary pay wage; illness sickness; journey trip; location place;
area region; folder directory; quickly rapidly fast; nearly almost; frequently often; rarely seldom;
immediately instantly; now currently; maybe perhaps; also too additionally; entirely completely fully; primarily mainly
chiefly mostly; outage downtime; employee worker; colleague coworker; afraid scared frightened"""
GROUPS: dict[str, frozenset[str]] = {}
for _group in _GROUPS.split(";"):
    for _word in _group.split():
        GROUPS[_word] = GROUPS.get(_word, frozenset()).union(_group.split())

# Runs of words that may stand for one another in their place.
RUNS: dict[str, frozenset[str]] = {}
for _runs in (
    "would like|want|wants",
    "'s name be|be called|be named",
    "be situated|lives|live",
    "capped at|limited to|restricted to",
    "set to|configured to",
    "at night|every night",
    "by day|every day",
):
    for _run in _runs.split("|"):
        RUNS[_run] = frozenset(_runs.split("|")) - {_run}
# A verb that takes no object, for one that may take one: alike only where none follows.
INTRANSITIVE = frozenset("depart departs departed departing reside resides resided residing".split())
# What follows a verb that has no object.
FOLLOWING = frozenset(
    f"""in on at by for from to with without before after around about every and but or because when while if unless
    then
    until since later early today tomorrow tonight {" ".join(PLAIN_WEEKDAYS)}""".split()
)
# Adverbs of time and habit may stand anywhere in their clause.
ADVERBS = frozenset(
    """currently now usually often sometimes typically generally normally recently eventually finally initially
    originally
    previously today tomorrow yesterday tonight always regularly occasionally again soon later""".split()
)
# Of these, what tells the time and nothing of how often: it may stand on either side of "not".
DATING = frozenset("currently now today tomorrow yesterday tonight recently previously".split())
# What a pronoun that is marked as perhaps about the user ("their~") may stand for.
PRONOUNS = dict.fromkeys(("they", "he", "she", "them", "him"), "<speaker>")
PRONOUNS |= dict.fromkeys(("their", "his", "her", "theirs", "hers"), "<speaker's>")
PRONOUNS |= dict.fromkeys(("themselves", "himself", "herself"), "<speaker self>")
# Somebody else whom "his" or "her" may be about.
PEOPLE = frozenset(
    """wife husband partner spouse girlfriend boyfriend mother father mom mum dad parent parents son daughter brother
    sister sibling cousin uncle aunt nephew niece grandmother grandfather grandma grandpa child kid baby friend friends
    boss manager colleague coworker teammate doctor therapist dentist teacher neighbor neighbour landlord tenant client
    customer roommate man woman girl boy guy lady person dog cat""".split()
)

# Words that may stand on one side only: they lead to what follows and carry no fact of their own. Not among them:
# what turns roles, verbs or time ("by", "to", "on", "was") and what hedges or limits ("may", "only", "some", "until").
LIGHT = frozenset("and also so then which".split())
# The same, however short the text and whatever its vectors say.
EMPTY = frozenset("the a that 's".split())
