//! Stop words: frequent words that carry no meaning of their own.

use rust_stemmers::Algorithm;

/// Lucene's `EnglishAnalyzer.ENGLISH_STOP_WORDS_SET`: 33 words.
const ENGLISH: &str = "a an and are as at be but by for if in into is it no not of on or such that the their then \
    there these they this to was will with";

/// Articles, pronouns, prepositions, conjunctions and forms of sein, haben, werden after Snowball's German list.
const GERMAN: &str = "aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes \
    anderm andern anderr anders auch auf aus bei bin bis bist da damit dann der den des dem die das daß dass derselbe \
    derselben denselben desselben demselben dieselbe dieselben dasselbe dazu dein deine deinem deinen deiner deines \
    denn derer dessen dich dir du dies diese diesem diesen dieser dieses doch dort durch ein eine einem einen einer \
    eines einig einige einigem einigen einiger einiges einmal er ihn ihm es etwas euer eure eurem euren eurer eures \
    für gegen gewesen hab habe haben hat hatte hatten hier hin hinter ich mich mir ihr ihre ihrem ihren ihrer ihres \
    euch im in indem ins ist jede jedem jeden jeder jedes jene jenem jenen jener jenes jetzt kann kein keine keinem \
    keinen keiner keines können könnte machen man manche manchem manchen mancher manches mein meine meinem meinen \
    meiner meines mit muss musste nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner \
    seines selbst sich sie ihnen sind so solche solchem solchen solcher solches soll sollte sondern sonst über um und \
    uns unse unsem unsen unser unses unter viel vom von vor während war waren warst was weg weil weiter welche \
    welchem welchen welcher welches wenn werde werden wie wieder will wir wird wirst wo wollen wollte würde würden zu \
    zum zur zwar zwischen";

/// After Snowball's French list, with the elided articles and pronouns (l', d', qu' …) as words of their own.
const FRENCH: &str = "au aux avec ce ces dans de des du elle en et eux il ils je la le les leur lui ma mais me même \
    mes moi mon ne nos notre nous on ou par pas pour qu que qui sa se ses son sur ta te tes toi ton tu un une vos \
    votre vous c d j l à m n s t y été étée étées étés étant suis es est sommes êtes sont serai seras sera serons \
    serez seront serais serait serions seriez seraient étais était étions étiez étaient fus fut fûmes fûtes furent \
    sois soit soyons soyez soient ayant eu eue eues eus ai as avons avez ont aurai auras aura aurons aurez auront \
    aurais aurait aurions auriez auraient avais avait avions aviez avaient eut eûmes eûtes eurent aie aies ait ayons \
    ayez aient ceci cela cet cette ici leurs quel quels quelle quelles sans soi";

/// After Snowball's Spanish list.
const SPANISH: &str = "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o \
    este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno \
    les ni contra otros ese eso ante ellos e esto mí antes algunos qué unos yo otro otras otra él tanto esa estos \
    mucho quienes nada muchos cual poco ella estar estas algunas algo nosotros mi mis tú te ti tu tus ellas nosotras \
    vosotros vosotras os mío mía míos mías tuyo tuya tuyos tuyas suyo suya suyos suyas nuestro nuestra nuestros \
    nuestras vuestro vuestra vuestros vuestras esos esas estoy estás está estamos estáis están esté estén era eras \
    éramos eran es soy eres somos sois son sea seas seamos sean será serán sería serían fui fue fuimos fueron he has \
    ha hemos habéis han haya hayan había habían habrá hubo tengo tienes tiene tenemos tienen tenía tenían";

/// After Snowball's Italian list.
const ITALIAN: &str = "ad al allo ai agli all agl alla alle con col coi da dal dallo dai dagli dall dagl dalla dalle \
    di del dello dei degli dell degl della delle in nel nello nei negli nell negl nella nelle su sul sullo sui sugli \
    sull sugl sulla sulle per tra contro io tu lui lei noi voi loro mio mia miei mie tuo tua tuoi tue suo sua suoi sue \
    nostro nostra nostri nostre vostro vostra vostri vostre mi ti ci vi lo la li le gli ne il un uno una ma ed se \
    perché anche come dov dove che chi cui non più quale quanto quanti quanta quante quello quelli quella quelle \
    questo questi questa queste si tutto tutti a c e i l o ho hai ha abbiamo avete hanno abbia avrà avranno aveva \
    avevano avuto sono sei è siamo siete sia siano sarà saranno sarebbe era eravamo erano fu furono essendo stato \
    stata stati state";

/// After Snowball's Dutch list.
const DUTCH: &str = "de en van ik te dat die in een hij het niet zijn is was op aan met als voor had er maar om hem \
    dan zou of wat mijn men dit zo door over ze zich bij ook tot je mij uit der daar haar naar heb hoe heeft hebben \
    deze u want nog zal me zij nu ge geen omdat iets worden toch al waren veel meer doen toen moet ben zonder kan hun \
    dus alles onder ja eens hier wie werd altijd doch wordt wezen kunnen ons zelf tegen na reeds wil kon niets uw \
    iemand geweest andere";

/// After Snowball's Portuguese list.
const PORTUGUESE: &str = "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à \
    seu sua ou quando muito nos já eu também só pelo pela até isso ela entre depois sem mesmo aos seus quem nas me \
    esse eles você essa num nem suas meu às minha numa pelos elas qual nós lhe deles essas esses pelas este dele tu te \
    vocês vos lhes meus minhas teu tua teus tuas nosso nossa nossos nossas dela delas esta estes estas aquele aquela \
    aqueles aquelas isto aquilo estou está estamos estão estava estavam hei há havemos hão houve sou somos são era \
    éramos eram fui foi fomos foram seja sejam será serão seria seriam tenho tem temos têm tinha tinham terá terão";

/// Stop words of a language, lower-case, separated by white space; empty where no list is kept.
pub(super) fn stop_words(language: Algorithm) -> &'static str {
    match language {
        Algorithm::English => ENGLISH,
        Algorithm::German => GERMAN,
        Algorithm::French => FRENCH,
        Algorithm::Spanish => SPANISH,
        Algorithm::Italian => ITALIAN,
        Algorithm::Dutch => DUTCH,
        Algorithm::Portuguese => PORTUGUESE,
        Algorithm::Arabic
        | Algorithm::Danish
        | Algorithm::Finnish
        | Algorithm::Greek
        | Algorithm::Hungarian
        | Algorithm::Norwegian
        | Algorithm::Romanian
        | Algorithm::Russian
        | Algorithm::Swedish
        | Algorithm::Tamil
        | Algorithm::Turkish => "",
    }
}
