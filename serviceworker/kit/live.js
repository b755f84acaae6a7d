//! Belfry's live events, https://github.com/belfry-push/belfry/blob/main/serviceworker/live.js
const SECOND=1e3,STEP=2e3,FLOOR=2,SETTLE=5,GIVE_UP=8,AWAKE=5e3,FIRST_WAIT=1e3,LONGEST_WAIT=3e4,PING=25e3,OVERDUE=1.2,DEAD=2.2,
POLL=25,SHORT=1e4,ANSWER=1e4,LONGEST_LINE=1048576,TAKEOVER=2e3,MOST_ACKS=50,REPEAT=3e4,MOST_GIVEN=2e3,REMEMBER=864e5,WAYS={
sse,fetch:lines,websocket,"long-poll":polls};function sse(page,server,{channels,cursor,token},hear){const{EventSource}=page;
let source;const open=(ticket="")=>{source=new EventSource(`${server}/v1/events?${query(channels,cursor&&["last_event_id",
cursor],ticket&&["ticket",ticket])}`);const heard=({type,data,lastEventId})=>hear({...lastEventId&&{cursor:lastEventId},
...parse(data),event:type==="message"?"":type});for(const type of["message","hello","ping","reset","auth","bye"])source.
addEventListener(type,heard);source.addEventListener("error",()=>hear({event:"end"}))},hangUp=new AbortController;return token&&
EventSource?(async()=>{const answer=await page.fetch(`${server}/v1/tickets`,{method:"POST",headers:{"Content-Type":"appl\
ication/json",...bearer(token)},body:"{}",cache:"no-store",credentials:"omit",redirect:"error",signal:hangUp.signal});if(!answer.
ok)return hear(await refusal(answer));const{ticket}=object(await answer.json());hangUp.signal.aborted||open(text(ticket))})().
catch(()=>hear({event:"end"})):open(),()=>{hangUp.abort(),source?.close()}}function lines(page,server,{channels,cursor,token},hear){
const hangUp=new AbortController;return(async()=>{const answer=await page.fetch(`${server}/v1/events`,{method:"POST",headers:{
"Content-Type":"application/json",Accept:"application/x-ndjson",...bearer(token)},body:JSON.stringify({channels,cursor}),
cache:"no-store",credentials:"omit",redirect:"error",signal:hangUp.signal}),reader=answer.status===200?answer.body?.getReader():
null;if(!reader)return hear(answer.status===204?{event:"away"}:await refusal(answer));const decoder=new TextDecoder;for(let rest="";rest.
length<1048576;){const{done,value}=await reader.read();if(done)return;const all=(rest+decoder.decode(value,{stream:!0})).
split(`
`);rest=all.pop()??"";for(const line of all)hear(parse(line))}})().catch(()=>{}).then(()=>hear({event:"end"})),()=>hangUp.
abort()}function websocket(page,server,{token,...wish},hear){const socket=new page.WebSocket(`${server.replace(/^http/,"\
ws")}/v1/ws`,"belfry.v1");return socket.addEventListener("open",()=>socket.send(JSON.stringify({...wish,...token&&{token}}))),
socket.addEventListener("message",({data})=>hear(parse(data))),socket.addEventListener("close",({code})=>hear({event:"en\
d",stale:code===1008})),()=>socket.close()}function polls(page,server,{channels,cursor,token},hear){const hangUp=new AbortController;
return(async()=>{for(let n=0,wait=0,cuts=0;!hangUp.signal.aborted;n++){const asked=Date.now(),answer=await poll(page,server,
{channels,cursor,token},wait,hangUp.signal).catch(err=>{if(wait===0)throw err;return null});if(!answer){++cuts===2&&hear(
{event:"short"}),wait=0;continue}if(answer.refused)return hear(answer.refused);n===0&&hear({event:"hello"}),answer.reset&&
hear({...answer.reset,event:"reset"});for(const message of answer.messages)hear(message);hear({event:"ping",cursor:cursor=
answer.cursor}),wait>0&&(cuts=0),wait=answer.more||cuts>=2?0:25,!answer.more&&(cuts>=2?await pause(1e4*(.8+.4*Math.random())):
n>0&&answer.messages.length===0&&Date.now()-asked<1e3&&await pause(1e3))}})().catch(()=>{}).then(()=>hear({event:"end"})),
()=>hangUp.abort()}async function poll(page,server,{channels,cursor,token},wait,signal){const hangUp=new AbortController,
stop=()=>hangUp.abort();signal?.addEventListener("abort",stop),signal?.aborted&&stop();const timer=setTimeout(stop,wait*
1e3+1e4);try{const answer=await page.fetch(`${server}/v1/poll?${query(channels,["wait",String(wait)],cursor&&["cursor",cursor])}`,
{headers:bearer(token),cache:"no-store",credentials:"omit",redirect:"error",signal:hangUp.signal}),empty=answer.status===
204;if(!empty&&answer.status!==200)return{cursor,messages:[],more:!1,refused:await refusal(answer)};const said=empty?{cursor:answer.
headers.get("Belfry-Cursor")}:object(await answer.json());if(!text(said.cursor))throw new Error("no cursor");return{cursor:text(
said.cursor),messages:Array.isArray(said.messages)?said.messages.map(object):[],...said.reset?{reset:object(said.reset)}:
{},more:said.more===!0}}finally{clearTimeout(timer),signal?.removeEventListener("abort",stop)}}function query(channels,...more){
return new URLSearchParams([...channels.map(name=>["channel",name]),...more.filter(one=>one!=="")])}function bearer(token){
return token?{Authorization:`Bearer ${token}`}:{}}async function refusal(answer){const after=Number(answer.headers.get("\
Retry-After"));return(answer.status===429||answer.status===503)&&after>0?{event:"bye",retry:after*1e3}:{event:"end",stale:answer.
status===401,reason:text(parse(await answer.text()).detail)||`the server answered ${answer.status}`}}class Pass{#ask;#kept=null;constructor(ask){
this.#ask=ask}token(){if(this.#kept)return this.#kept;const kept=this.#ask();this.#kept=kept;const drop=()=>{this.#kept===
kept&&(this.#kept=null)};return kept.then(token=>{token||drop()},drop),kept}spoil(){this.#kept=null}}class Line{cursor="";#page;#server;#tell;#device;#pass;#token="";#asked=null;#barred=[];#channels=[];#visible=!0;#calls=new Map;#call=null;#left=[];#proven=new Set;#tries=0;#heard=0;#woke=-1/0;#closed=!1;#acks=[];#acknowledging=!1;#seen=0;#turn=Promise.
resolve();#timers={};constructor(page,server,device,pass,tell){this.#page=page,this.#server=server,this.#device=device,this.#pass=
pass,this.#tell=tell}dial(){if(this.#closed)return;if(this.#hangUp(),this.#heard=Date.now(),!this.#pass)return this.#dialAs(
"");const asked=this.#pass.token();this.#asked=asked,asked.then(token=>{asked===this.#asked&&this.#dialAs(token)},err=>{
asked===this.#asked&&(this.#lose(),this.#tell({event:"transport",transport:"",reason:text(object(err).message)}))})}#dialAs(token){
this.#asked=null,this.#become(token);const ways=Object.keys(WAYS),best=remembered(this.#page);this.#left=[...new Set(best&&
ways.includes(best)?[best,...ways]:ways)],this.#next(),this.#step(0,0)}close(){this.#closed=!0,this.#hangUp()}wake(surely){
this.#woke=Date.now();const overdue=Date.now()-this.#heard>1.2*(this.#call?.ping??25e3);(surely||overdue||this.#calls.size===
0)&&this.dial()}tune(channels,visible){this.#channels=channels;const turned=visible!==this.#visible;this.#visible=visible,
this.#call&&this.#shut.some(name=>!this.#barred.includes(name))?this.#renew():this.#retune(),turned&&this.#call?.bound&&
this.#look()}ack(id){!this.#call?.conn||this.#call.bound===""||(this.#acks.push(id)>2e3&&this.#acks.shift(),this.#acknowledge())}async#acknowledge(){
if(!this.#acknowledging){for(this.#acknowledging=!0;this.#call?.bound&&this.#acks.length>0;)await this.#order(()=>({ack:this.#acks.
splice(0,50)}));this.#acknowledging=!1}}async#look(more){const told=await this.#order({...more,visible:this.#visible});return told&&
(this.#seen=Date.now()),told}async bind(){const call=this.#call,device=await this.#device().catch(()=>null);!call?.conn||
call!==this.#call||device&&call.bound===device.id||(call.bound=device&&await this.#look({device})?device.id:"",this.#acknowledge())}get#shut(){
const opened=opens(this.#token);return this.#channels.filter(name=>name.startsWith("private-")&&!opened.includes(name))}get#wanted(){
const shut=this.#shut;return this.#channels.filter(name=>!shut.includes(name))}#become(token){this.#token=token;const before=this.#barred;
this.#barred=this.#shut;const news=this.#barred.filter(name=>!before.includes(name));news.length>0&&this.#tell({event:"b\
arred",reason:`The site's user token does not open ${news.join(", ")}.`})}async#renew(){const call=this.#call;this.#pass?.
spoil();const token=await this.#pass?.token().catch(()=>{});!call||call!==this.#call||(this.#become(token??this.#token),
token===""?this.dial():this.#retune(token!==void 0))}#next(){const way=this.#left.shift();way?this.#try(way):this.#calls.
size===0&&this.#lose()}#try(way){const call={way,hangUp:()=>{},begun:!1,conn:"",ping:25e3,channels:this.#wanted,bound:null};
this.#calls.set(way,call);try{call.hangUp=WAYS[way](this.#page,this.#server,{channels:call.channels,cursor:this.cursor,token:this.#token},
said=>{this.#calls.get(way)===call&&this.#hear(call,said)})}catch{this.#ended(call)}}#step(ticks,steps){if(this.#call||this.#calls.
size===0)return;const due=Date.now()+2e3;this.#after("step",2e3,()=>{const now=Date.now();if(now-due>2e3)return this.#step(
ticks,steps);const fair=this.#visible&&this.#page.navigator.onLine!==!1&&now-this.#woke>=5e3;fair&&this.#fallBack(steps+
1),ticks+1<8?this.#step(ticks+1,fair?steps+1:steps):this.#call||this.#lose()})}#fallBack(steps){const floor=this.#calls.
get("long-poll");if(steps>=5&&floor?.begun)return this.#settle(floor);this.#left[0]!=="long-poll"&&this.#next(),!(steps<
2||!this.#left.includes("long-poll"))&&(this.#left=this.#left.filter(way=>way!=="long-poll"),this.#try("long-poll"))}#hear(call,said){
if(this.#heard=Date.now(),(said.stale||said.event==="bye"&&said.reason==="auth")&&this.#pass?.spoil(),said.event==="hell\
o")return this.#begin(call,said);if(said.event==="end")return this.#ended(call,said.reason);if(said.event==="bye")return this.#lose(
said.retry);if(said.event==="away")return this.close(),this.#tell({event:"transport",transport:""});if(call.begun){if(said.
event==="short")return this.#tell({event:"transport",transport:"short-poll"});if(call===this.#call&&this.#watch(call),said.
event==="auth"){call===this.#call&&this.#renew();return}said.event==="ping"&&(this.#tries=0),text(said.cursor)&&(this.cursor=
text(said.cursor)),this.#tell(said),said.event==="ping"&&this.#visible&&this.#call?.bound&&Date.now()-this.#seen>=3e4&&this.#look()}}#begin(call,hello){
if(call.begun)return;call.begun=!0,call.conn=text(hello.conn);const ping=Number(hello.ping)*1e3;ping>=1e3&&ping<=10*25e3&&
(call.ping=ping),text(hello.cursor)&&(this.cursor=text(hello.cursor)),call.way==="long-poll"&&this.#calls.size>1?this.#tell(
{event:"transport",transport:call.way}):this.#settle(call)}#settle(call){for(const other of this.#calls.values())other!==
call&&this.#drop(other);this.#call=call,this.#left=[],clearTimeout(this.#timers.step),this.#proven.add(call.way),remember(
this.#page,call.way),this.#watch(call),this.#tell({event:"transport",transport:call.way,cursor:this.cursor}),this.#retune(),
this.bind()}#watch(call){this.#after("watch",2.2*call.ping,()=>this.#lose())}#ended(call,reason){this.#drop(call);const[
floor]=this.#calls.values();call===this.#call?this.#lose():floor?.begun&&this.#calls.size===1&&this.#left.length===0?this.#settle(
floor):this.#proven.has(call.way)&&this.#calls.size===0?this.#lose():this.#next(),text(reason)&&this.#tell({event:"trans\
port",transport:"",reason})}#lose(retry){const usual=Math.random()*Math.min(3e4,1e3*2**this.#tries++),wait=typeof retry==
"number"&&retry>=0&&retry<=10*3e4?retry:usual;this.#hangUp(),this.#after("retry",wait,()=>this.dial()),this.#tell({event:"\
transport",transport:""})}#hangUp(){for(const timer of Object.values(this.#timers))clearTimeout(timer);for(const call of this.#calls.
values())this.#drop(call);this.#call=null,this.#asked=null,this.#left=[],this.#acks=[]}#drop(call){this.#calls.delete(call.
way),call.hangUp()}async#retune(anyhow=!1){const call=this.#call;if(!call)return;const wanted=this.#wanted,subscribe=wanted.
filter(name=>!call.channels.includes(name)),unsubscribe=call.channels.filter(name=>!wanted.includes(name));if(subscribe.
length+unsubscribe.length===0&&!anyhow)return;call.channels=wanted,!(call.conn!==""&&await this.#order({subscribe,unsubscribe}))&&
call===this.#call&&this.dial()}#order(order){const call=this.#call,post=async()=>{if(!call?.conn||call!==this.#call)return!1;
const hangUp=new AbortController,timer=setTimeout(()=>hangUp.abort(),1e4);try{return(await this.#page.fetch(`${this.#server}\
/v1/connections/${call.conn}`,{method:"POST",headers:{"Content-Type":"application/json",...bearer(this.#token)},body:JSON.
stringify(typeof order=="function"?order():order),cache:"no-store",credentials:"omit",redirect:"error",signal:hangUp.signal})).
ok}catch{return!1}finally{clearTimeout(timer)}},turn=this.#turn.then(post);return this.#turn=turn,turn}#after(what,ms,work){
clearTimeout(this.#timers[what]),this.#timers[what]=setTimeout(work,ms)}}export class Tabs{#page;#server;#target;#device;#shown;#pass;#name=Array.
from({length:4},()=>Math.random().toString(36).slice(2)).join("");#listeners=new Set;#bus=null;#line=null;#others=new Map;#union=[];#cursor="";#behind="";#heard=0;#transport="";#given=new Set;#gone=new AbortController;#missed=new AbortController;#timer;constructor(page,server,target,device,shown,userToken=null){
this.#page=page,this.#server=server,this.#target=target,this.#device=device,this.#shown=shown,this.#pass=userToken&&new Pass(
userToken),page.addEventListener("pagehide",()=>this.#stop()),page.addEventListener("pageshow",()=>this.#start()),page.addEventListener(
"online",()=>{forget(page),this.#line?.wake(!0)}),page.document.addEventListener("visibilitychange",()=>this.#look()),target.
addEventListener("state",()=>this.#line?.bind())}join(channels,onMessage,onReset){const listener={channels},ended=new AbortController;
return this.#target.addEventListener("message",event=>{const{detail}=event;concerns(detail.channels,channels)&&onMessage(
detail)},ended),onReset&&this.#target.addEventListener("reset",event=>onReset(event.detail),ended),this.#listeners.add(listener),
this.#listeners.size===1?this.#start():this.#changed(),()=>{ended.abort(),this.#listeners.delete(listener)&&(this.#listeners.
size===0?this.#stop():this.#changed())}}askAnew(){this.#bus||this.#askAnew()}#askAnew(){this.#pass&&(this.#pass.spoil(),
this.#missed.abort(),this.#line?.dial())}#start(){if(this.#listeners.size===0||!this.#gone.signal.aborted&&(this.#bus||this.#line))
return;this.#gone=new AbortController;const{navigator,BroadcastChannel}=this.#page;if(!navigator.locks||!BroadcastChannel)
return this.#lead();this.#bus=new BroadcastChannel(this.#key),this.#bus.onmessage=({data})=>this.#told(object(data)),this.#queue(
!1),this.#ask()}#stop(){this.#gone.abort(),this.#missed.abort(),this.#pass?.spoil(),clearTimeout(this.#timer),this.#follow(),
this.#post({gone:this.#name}),this.#bus?.close(),this.#bus=null,this.#heard=0,this.#become("")}get#key(){return`belfry.l\
ive ${this.#server}`}get#visible(){return this.#page.document.visibilityState==="visible"}get#channels(){return[...new Set(
[...this.#listeners].flatMap(({channels})=>channels))]}#queue(steal){const{signal}=this.#gone,lead=()=>new Promise(release=>{
if(signal.aborted)return release();signal.addEventListener("abort",release),this.#lead()});this.#page.navigator.locks.request(
this.#key,steal?{steal}:{signal},lead).catch(err=>{if(!signal.aborted){if(object(err).name!=="AbortError")return this.#lead();
this.#follow(),this.#queue(!1),this.#here(!0),this.#patience(2.2*25e3,()=>this.#ask())}})}#lead(){this.#line||(clearTimeout(
this.#timer),this.#line=new Line(this.#page,this.#server,this.#device,this.#pass,said=>this.#tell(said)),this.#line.cursor=
this.#behind||this.#cursor,this.#behind="",this.#others=new Map([["",{channels:this.#union,visible:!1,at:Date.now()}]]),
this.#state(!0),this.#tune(),this.#line.dial())}#follow(){this.#line?.close(),this.#line=null,this.#others.clear()}#tell(said){
if(this.#take(said),said.event!=="ping")return this.#post({said});const old=Date.now()-2.2*25e3;for(const[name,{at}]of this.#others)
at<old&&this.#others.delete(name);this.#tune(),this.#state(!0)}#state(roll){this.#post({said:{event:"state",cursor:this.#line?.
cursor,transport:this.#transport,channels:this.#union},roll})}#tune(){const others=[...this.#others.values()];this.#union=
[...new Set([...this.#channels,...others.flatMap(({channels})=>channels)])].sort(),this.#line?.tune(this.#union,this.#visible||
others.some(({visible})=>visible))}#changed(){this.#line?this.#tune():this.#here(!1)}#here(ask){this.#post({tab:this.#name,
channels:this.#channels,visible:this.#visible,ask})}#ask(){this.#here(!0),this.#patience(2e3,()=>this.#visible?this.#queue(
!0):this.#patience(2.2*25e3,()=>this.#ask()))}#patience(ms,work){clearTimeout(this.#timer),!this.#line&&this.#bus&&(this.#timer=
setTimeout(work,ms))}#look(){this.#line?(this.#tune(),this.#visible&&this.#line.wake(!1)):this.#bus&&(this.#visible?this.#ask():
this.#here(!1))}#told(data){if(text(data.tab)){if(!this.#line||(this.#others.set(text(data.tab),{channels:strings(data.channels),
visible:data.visible===!0,at:Date.now()}),this.#tune(),!data.ask))return;this.#state(!1),data.visible===!0&&this.#line.wake(
!1)}else text(data.gone)?this.#others.delete(text(data.gone))&&this.#line&&this.#tune():text(data.ack)?this.#line?.ack(text(
data.ack)):data.user?this.#askAnew():data.said&&!this.#line&&(this.#listen(object(data.said)),data.roll&&this.#here(!1))}#listen(said){
Date.now()-this.#heard>2.2*25e3&&(this.#behind||=this.#cursor),this.#heard=Date.now(),this.#patience(2.2*25e3,()=>this.#ask()),
said.event==="state"&&(this.#union=strings(said.channels)),this.#take(said),this.#catchUp().catch(()=>{})}async#catchUp(){
const from=this.#behind;if(!from)return;this.#behind="",this.#missed=new AbortController;const{signal}=this.#missed;try{
const token=await this.#pass?.token()??"",opened=opens(token),channels=this.#channels.filter(name=>!name.startsWith("pri\
vate-")||opened.includes(name));for(let cursor=from,more=!0;more;){const answer=await poll(this.#page,this.#server,{channels,
cursor,token},0,signal);if(answer.refused?.stale&&this.#pass?.spoil(),answer.refused)throw new Error("refused");answer.reset&&
this.#reset(answer.reset);for(const message of answer.messages)this.#give(message);({cursor,more}=answer)}}catch(err){throw this.#behind=
from,err}}#take(said){said.event==="reset"?this.#reset(said):said.event==="transport"||said.event==="state"?this.#become(
text(said.transport),said.reason):said.event==="barred"?this.#become(this.#transport,said.reason):said.event||this.#give(
said),text(said.cursor)&&(this.#cursor=text(said.cursor))}#reset({reason,requested,earliest,latest}){this.#fire("reset",
{reason,requested,earliest,latest})}#become(transport,reason){transport===this.#transport&&!reason||(this.#transport=transport,
this.#fire("transport",{transport,...text(reason)?{reason}:{}}))}#give(said){const id=text(said.id);if(!id||!Array.isArray(
said.channels)||!text(object(said.message).title)||this.#given.has(id))return;if(this.#given.add(id),this.#given.size>2e3)
for(const oldest of this.#given){this.#given.delete(oldest);break}const channels=strings(said.channels);if(!concerns(channels,
this.#channels))return;const{time,cursor,message}=said;this.#fire("message",{id,channels,time,cursor,message}),this.#visible&&
(this.#shown(id),this.#line?this.#line.ack(id):this.#post({ack:id}))}#fire(type,detail){this.#target.dispatchEvent(new CustomEvent(
type,{detail}))}#post(data){this.#bus?.postMessage(data)}}function concerns(channels,chosen){return channels.length===0||
channels.some(name=>chosen.includes(name))}const TRANSPORT="belfry.transport";function remembered(page){try{const{way,until}=parse(
page.localStorage.getItem(TRANSPORT));return Number(until)>Date.now()&&Number(until)<=Date.now()+864e5?text(way):""}catch{
return""}}function remember(page,way){if(remembered(page)!==way)try{page.localStorage.setItem(TRANSPORT,JSON.stringify({
way,until:Date.now()+864e5}))}catch{}}function forget(page){try{page.localStorage.removeItem(TRANSPORT)}catch{}}function opens(token){
try{return strings(parse(atob(token.split(".")[1].replaceAll("-","+").replaceAll("_","/"))).channels)}catch{return[]}}function parse(json){
try{return object(JSON.parse(text(json)))}catch{return{event:"malformed"}}}function object(value){return typeof value=="\
object"&&value!==null?value:{}}function text(value){return typeof value=="string"?value:""}function strings(value){return Array.
isArray(value)?value.filter(one=>typeof one=="string"):[]}function pause(ms){return new Promise(resolve=>{setTimeout(resolve,
ms)})}
